-- title: Searches that find nothing
-- chart: bar x=words y=searches
SELECT words, zero AS searches FROM search_queries WHERE zero > 0 ORDER BY zero DESC, words LIMIT 15
