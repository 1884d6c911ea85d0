-- Inserts events of the journal as they were, except for their transaction. The trigger projects them.
-- Versions are counted again. They are the recorded ones, unless weeks were left out of which a file has events, too.
INSERT INTO otc.events (id, event_id, event_type, aggregate_type, aggregate_id, version, payload, metadata, created_at,
    began_at, write_moment)
OVERRIDING SYSTEM VALUE
SELECT id, event_id, event_type, aggregate_type, aggregate_id,
    row_number() OVER (PARTITION BY aggregate_type, aggregate_id ORDER BY id) + coalesce((
        SELECT max(stored.version) FROM otc.events stored
        WHERE stored.aggregate_type = restored.aggregate_type AND stored.aggregate_id = restored.aggregate_id), 0),
    payload, metadata, created_at, began_at, write_moment
FROM jsonb_populate_recordset(NULL::otc.events, CAST(:events AS jsonb)) restored ORDER BY id
