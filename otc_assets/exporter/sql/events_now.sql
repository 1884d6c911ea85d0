-- The present snapshot, and where the next batch of events ends.
-- An event gets its id before its transaction commits, so it may appear among events that were read long ago. New events
-- are therefore those that this snapshot sees and the last one did not. This does not wait for long transactions; the
-- history before the oldest of them is final, and is read in batches.
SELECT s::text AS snapshot, pg_snapshot_xmin(s)::text AS final, pg_snapshot_xmax(s)::text AS next,
       (SELECT coalesce(max(id), 0) FROM otc.events) AS newest,
       (SELECT journal_id::text FROM otc.journal) AS journal,
       (SELECT e.xid::text FROM otc.events e WHERE e.xid >= %(after)s::text::xid8
        ORDER BY e.xid, e.id OFFSET %(batch)s LIMIT 1) AS full
FROM pg_current_snapshot() s
