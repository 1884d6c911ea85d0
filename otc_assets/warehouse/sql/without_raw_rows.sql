-- The captures since a week that have no row in raw_record, oldest first.
-- LIMIT keeps the planner from joining all of raw_record: there is one index lookup per publication.
SELECT p.* FROM otc.publication p
LEFT JOIN LATERAL (
    SELECT 1 AS found FROM otc.raw_record r
    WHERE r.week_ending = p.week_ending AND r.publication_id = p.id LIMIT 1
) stored ON true
WHERE p.week_ending >= :first AND p.rows_received > 0 AND stored.found IS NULL
ORDER BY p.week_ending, p.id
