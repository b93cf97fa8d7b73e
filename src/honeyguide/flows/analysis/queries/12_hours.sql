-- title: When people come
-- chart: heatmap x=hour y=weekday color=visits
-- note: Visits begun, by hour and day of the week (UTC).
SELECT hour(started_at) AS hour, strftime(day, '%u %a') AS weekday, count(*) AS visits
FROM sessions GROUP BY ALL ORDER BY weekday, hour
