-- title: Showings acted on
-- chart: number y=share format=percent
SELECT sum(acted) / sum(shown) AS share FROM position_ctr HAVING sum(shown) > 0
