-- title: Back on the 1st, 7th and 28th day
-- chart: line x=cohort y=rate color=after format=percent
-- note: Of the people who first came in a week (cohorts of 20 people and more). A line ends where the day is not over for the whole cohort.
SELECT cohort, rate, 'day ' || after_days AS after FROM retention
WHERE grain = 'week' AND known AND people >= 20 ORDER BY cohort, after_days
