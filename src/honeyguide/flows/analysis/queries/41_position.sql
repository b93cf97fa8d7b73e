-- title: The pull of the upper slots
-- chart: line x=position y=ctr color=surface format=percent
-- interval: ctr_low,ctr_high
-- note: Showings acted on, by slot (30 showings and more). What stands high is also better, so this is not the slot's effect alone.
SELECT position, coalesce(surface, 'not said') AS surface, ctr, ctr_low, ctr_high FROM position_ctr
WHERE position <= 50 AND shown >= 30 ORDER BY surface, position
