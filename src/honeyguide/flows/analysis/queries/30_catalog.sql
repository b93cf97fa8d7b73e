-- title: Catalog health
-- chart: table rows=60
-- note: Stale: had events, but none in the last 28 days. Gini: 0 = all items alike, 1 = one item has all.
SELECT replace(measure, '_', ' ') AS measure,
  CASE unit WHEN 'share' THEN round(100 * amount, 1) || ' %' WHEN 'h' THEN round(amount, 1) || ' h'
    ELSE amount::BIGINT::VARCHAR END AS amount,
  unit AS "of"
FROM catalog_health WHERE amount IS NOT NULL AND NOT (measure LIKE 'without_%' AND unit = 'items')
