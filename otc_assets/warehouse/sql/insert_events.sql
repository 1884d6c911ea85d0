-- Inserts events of the journal as they were, except for their transaction. The trigger projects them.
INSERT INTO otc.events (id, event_id, event_type, aggregate_type, aggregate_id, version, payload, metadata, created_at,
    began_at, write_moment)
OVERRIDING SYSTEM VALUE
SELECT id, event_id, event_type, aggregate_type, aggregate_id, version, payload, metadata, created_at, began_at,
    write_moment
FROM jsonb_populate_recordset(NULL::otc.events, CAST(:events AS jsonb)) ORDER BY id
