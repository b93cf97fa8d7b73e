-- title: How late events become known
-- chart: bar x=known y=share format=percent
-- note: Shown only where an event came later than it happened; a log loaded from a file tells of no delay.
WITH s AS (
  SELECT sum(events) AS n, sum(within_minute) AS minute, sum(within_hour) AS hour, sum(within_day) AS day,
    max(delay_max_s) AS worst FROM volumes
)
SELECT * FROM (
  SELECT 'within a minute' AS known, minute / n AS share FROM s WHERE worst > 0
  UNION ALL SELECT 'within an hour', (hour - minute) / n FROM s WHERE worst > 0
  UNION ALL SELECT 'within a day', (day - hour) / n FROM s WHERE worst > 0
  UNION ALL SELECT 'later', (n - day) / n FROM s WHERE worst > 0
)
