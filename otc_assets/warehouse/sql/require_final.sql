-- otc.require_final(kind, moment, seen): no rows, or an error if an answer as of the moment could still change.
CREATE OR REPLACE FUNCTION otc.require_final(kind anyelement, moment timestamptz, seen pg_snapshot)
RETURNS SETOF anyelement
LANGUAGE plpgsql PARALLEL RESTRICTED ROWS 1 SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
DECLARE
    until timestamptz := otc.known_until();
BEGIN
    IF moment >= until THEN
        RAISE EXCEPTION 'an answer as of % could still change', moment
            USING ERRCODE = 'OT001',
                  DETAIL = format('Answers as of moments before %s are final: a load is under way that began then, '
                                  'or that is now.', until),
                  HINT = 'Ask as of a moment before otc.known_until(), or read the table itself for what is known now.';
    END IF;
    -- A load that committed after the caller's snapshot was taken, and before the locks were read: this function is
    -- volatile, so it sees that load, and the caller does not. Captures of data sets are no computed weeks.
    -- Only of the last hour: transaction numbers mean nothing after a dump and restore.
    IF EXISTS (
        SELECT FROM otc.computed_week
        WHERE computed_at > now() - interval '1 hour' AND NOT pg_visible_in_snapshot(xid, seen)
    ) OR EXISTS (
        SELECT FROM otc.events
        WHERE xid >= pg_snapshot_xmin(seen) AND event_type = 'otc.dataset.captured'
          AND created_at > now() - interval '1 hour' AND NOT pg_visible_in_snapshot(xid, seen)
    ) THEN
        RAISE EXCEPTION 'a load ended just now: ask again' USING ERRCODE = 'serialization_failure';
    END IF;
END
$$;
