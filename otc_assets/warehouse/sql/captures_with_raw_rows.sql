-- The captures that have rows in raw_record, oldest week first, of a schema that has this table.
-- LIMIT keeps the planner from joining all of raw_record: there is one index lookup per publication.
SELECT p.id, p.week_ending, p.tier, p.digest FROM otc.publication p
CROSS JOIN LATERAL (
    SELECT FROM otc.raw_record r WHERE r.week_ending = p.week_ending AND r.publication_id = p.id LIMIT 1
) stored
ORDER BY p.week_ending, p.id
