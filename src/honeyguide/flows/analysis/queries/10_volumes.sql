-- title: Events by day and action
-- chart: area x=day y=events color=action
-- note: The last day is not over.
SELECT day, action, events FROM volumes ORDER BY day
