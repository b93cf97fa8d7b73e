-- title: People
-- chart: number y=people
SELECT count(*) AS people FROM user_activity
