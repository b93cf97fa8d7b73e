-- title: Searches by day
-- chart: line x=day y=searches,zero,clicked,reformulated,abandoned
-- note: The last day is not over. Reformulated: another search within 5 minutes; abandoned: nothing at all.
SELECT day, searches, zero, clicked, reformulated, abandoned FROM search_traffic ORDER BY day
