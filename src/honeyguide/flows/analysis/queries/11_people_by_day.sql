-- title: People by day
-- chart: line x=day y=active,new
-- note: The last day is not over. Active: an event or an answered request; new: their first day in this log.
SELECT day, count(*) AS active, count(*) FILTER (WHERE session = 1) AS "new"
FROM (SELECT day, user_id, min(session) AS session FROM sessions GROUP BY ALL)
GROUP BY day ORDER BY day
