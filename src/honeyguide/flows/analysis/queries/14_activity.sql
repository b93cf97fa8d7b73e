-- title: Who makes the log
-- chart: bar x=events y=people,events_of_all format=percent
-- note: People by their number of events, and the share of all events that is theirs.
SELECT CASE WHEN at_most IS NULL THEN at_least || ' and more' WHEN at_least = at_most THEN at_least::VARCHAR
  ELSE at_least || '-' || at_most END AS events, people_share AS people, events_share AS events_of_all
FROM activity_classes ORDER BY at_least
