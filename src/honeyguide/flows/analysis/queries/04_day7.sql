-- title: Back after 7 days
-- chart: number y=share format=percent
-- interval: low,high
-- note: Of all people whose seventh day is over; Wilson interval.
WITH counted AS (
  SELECT sum(returned) AS back, sum(people) AS n FROM retention
  WHERE grain = 'day' AND after_days = 7 AND known
)
SELECT back / n AS share,
  (back / n + 1.9207 / n - 1.96 * sqrt(back / n * (1 - back / n) / n + 0.9604 / n ** 2)) / (1 + 3.8415 / n) AS low,
  (back / n + 1.9207 / n + 1.96 * sqrt(back / n * (1 - back / n) / n + 0.9604 / n ** 2)) / (1 + 3.8415 / n) AS high
FROM counted WHERE n > 0
