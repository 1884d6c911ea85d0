-- The newest week before another that has rows of a publication, or of one half, of the tier in venue volume.
-- Captures that were withdrawn or are quarantined don't count, also before the week is computed without them.
SELECT max(p.week_ending) FROM otc.publication p
JOIN otc.computed_week c ON c.week_ending = p.week_ending AND c.table_name = 'venue_volume'
WHERE p.week_ending < :week_ending AND p.tier = :tier AND p.scope <> 'PARTIAL'
  AND coalesce(p.rows_in_use, p.rows_accepted) > 0
  AND p.withdrawn_at IS NULL AND (p.quarantine_reason IS NULL OR p.accepted_at IS NOT NULL)
