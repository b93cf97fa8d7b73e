-- title: Lists answered
-- chart: bar x=day y=requests color=surface stack=yes
-- note: The last day is not over.
SELECT day, surface, requests FROM slate_days ORDER BY day
