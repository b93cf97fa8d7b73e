-- title: Searches without a hit
-- chart: number y=share format=percent
SELECT sum(zero) / sum(searches) AS share FROM search_traffic HAVING sum(searches) > 0
