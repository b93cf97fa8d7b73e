-- title: Items with the most events
-- chart: bar x=item y=events
SELECT coalesce(title, item_id) AS item, events FROM item_facts WHERE events > 0
ORDER BY events DESC, item_id LIMIT 15
