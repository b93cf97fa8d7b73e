-- title: Catalog health
-- chart: table rows=40
-- note: Stale: had events, but none in the last 28 days. New: known within the last 28 days. Gini: 0 = all items alike, 1 = one item has all.
SELECT replace(replace(measure, '_share', ', share'), '_', ' ') AS measure,
  CASE WHEN measure LIKE 'gini%' THEN printf('%.2f', amount) WHEN unit = 'share' THEN printf('%.1f %%', 100 * amount)
    WHEN unit = 'h' THEN printf('%.1f h', amount) ELSE printf('%d', amount::BIGINT) END AS amount
FROM catalog_health WHERE amount IS NOT NULL AND measure NOT LIKE 'without\_%\_share' ESCAPE '\'
  AND (measure NOT LIKE 'without\_%' ESCAPE '\' OR measure = 'without_events')
