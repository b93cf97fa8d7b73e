-- title: Back in the weeks after
-- chart: heatmap x=week y=cohort color=rate format=percent
-- note: The newest 16 cohorts of 20 people and more; a calendar week counts once it is over.
SELECT cohort, week, rate FROM retention_weeks WHERE week > 0 AND people >= 20 AND cohort IN (
  SELECT DISTINCT cohort FROM retention_weeks WHERE people >= 20 ORDER BY cohort DESC LIMIT 16
) ORDER BY cohort, week
