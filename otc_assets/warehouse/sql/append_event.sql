-- Appends an event, and returns it as it is stored.
SELECT * FROM otc.append_event(:event_type, :aggregate_type, :aggregate_id, CAST(:payload AS jsonb),
    CAST(:metadata AS jsonb), CAST(:expected_version AS bigint))
