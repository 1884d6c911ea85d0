-- The events of a week, oldest first, and those of retention that deleted it.
-- Retention's events are not of one week. Those that deleted this one are the first of each class beyond it.
SELECT * FROM otc.events WHERE payload ->> 'week_ending' = CAST(:week_ending AS text)
UNION ALL
SELECT * FROM otc.events WHERE id IN (
    SELECT min(id) FROM otc.events
    WHERE event_type = 'otc.retention.applied' AND payload ->> 'retained_from' > CAST(:week_ending AS text)
    GROUP BY aggregate_id)
ORDER BY id
