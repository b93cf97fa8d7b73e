-- title: What people search for
-- chart: table rows=15
SELECT words, searches, people, zero AS "without a hit", clicked, reformulated, abandoned FROM search_queries
ORDER BY searches DESC, words LIMIT 50
