-- The newest week before another that has a publication, or one half, of the tier in venue volume.
SELECT max(p.week_ending) FROM otc.publication p
JOIN otc.computed_week c ON c.week_ending = p.week_ending AND c.table_name = 'venue_volume'
WHERE p.week_ending < :week_ending AND p.tier = :tier AND p.scope <> 'PARTIAL' AND p.rows_accepted > 0
