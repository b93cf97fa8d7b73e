-- title: Catalog with events
-- chart: number y=share format=percent
SELECT amount AS share FROM catalog_health WHERE measure = 'coverage_events' AND amount IS NOT NULL
