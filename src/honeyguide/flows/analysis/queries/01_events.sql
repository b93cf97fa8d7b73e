-- title: Events
-- chart: number y=events
SELECT count(*) AS events FROM all_events
