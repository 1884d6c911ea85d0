-- The type of the last event of each of these aggregates.
SELECT DISTINCT ON (aggregate_id) aggregate_id, event_type FROM otc.events
WHERE aggregate_type = :aggregate_type AND aggregate_id = ANY(:aggregate_ids)
ORDER BY aggregate_id, version DESC
