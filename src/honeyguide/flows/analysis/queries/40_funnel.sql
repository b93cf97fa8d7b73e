-- title: From shown to acted on
-- chart: bar x=step y=share color=surface format=percent
-- note: Showings that led to an action of the step's weight or a larger one. Without showings there is no funnel.
SELECT step || ' ' || actions AS step, coalesce(surface, 'not said') AS surface,
  sum(reached) / max(sum(reached)) OVER (PARTITION BY surface) AS share
FROM funnels GROUP BY funnels.step, actions, surface ORDER BY funnels.step, surface
