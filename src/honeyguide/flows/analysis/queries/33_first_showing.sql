-- title: How long new items wait to be shown
-- chart: histogram x=hours bins=24
-- note: Hours from an item being known to its first showing; items that came after the log began.
SELECT hours_to_showing AS hours FROM item_facts
WHERE hours_to_showing IS NOT NULL AND known_at >= (SELECT min(happened_at) FROM all_events)
