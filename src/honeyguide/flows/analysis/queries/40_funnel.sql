-- title: From shown to acted on
-- chart: bar x=step y=share color=surface format=percent
-- note: Share of the showings that led to an action of this weight or a larger one.
WITH reached AS (
  SELECT step AS n, actions AS step, coalesce(surface, 'not said') AS surface, sum(reached) AS reached
  FROM funnels GROUP BY ALL
)
SELECT r.step, r.surface, r.reached / s.reached AS share
FROM reached AS r JOIN reached AS s ON s.surface = r.surface AND s.n = 0
WHERE r.n > 0 AND s.reached > 0 ORDER BY r.n, share DESC
