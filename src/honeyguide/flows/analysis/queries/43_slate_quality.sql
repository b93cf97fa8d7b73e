-- title: Lists by surface
-- chart: table
SELECT surface, sum(requests) AS requests, sum(shown) AS shown, sum(acted) AS acted,
  round(100 * sum(acted) / nullif(sum(shown), 0), 2) AS "acted on, %",
  round(100 * sum(requests_acted) / sum(requests), 2) AS "requests acted on, %", sum(empty) AS empty, sum(fell_back) AS "fell back"
FROM slate_days GROUP BY surface ORDER BY requests DESC
