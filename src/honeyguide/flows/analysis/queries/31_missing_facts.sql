-- title: What is not known of items
-- chart: bar x=fact y=share format=percent
-- note: Share of the catalog without the fact.
SELECT replace(replace(measure, 'without_', ''), '_share', '') AS fact, amount AS share
FROM catalog_health WHERE measure LIKE 'without_%_share' AND amount IS NOT NULL ORDER BY share DESC
