-- title: How long visits are
-- chart: bar x=events y=visits
-- note: Events of a visit; a visit ends after 30 minutes of silence.
SELECT CASE WHEN events < 5 THEN events::VARCHAR WHEN events < 10 THEN '5-9' WHEN events < 20 THEN '10-19'
  WHEN events < 50 THEN '20-49' WHEN events < 100 THEN '50-99' ELSE '100 and more' END AS events, count(*) AS visits
FROM sessions GROUP BY 1 ORDER BY min(sessions.events)
