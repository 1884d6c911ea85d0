-- The events after a cursor (xid, id), oldest first.
-- An event gets its id when it is written, and becomes visible when its transaction commits. A reader that remembers
-- only the last id skips events that a slower transaction wrote before and committed after. Transactions have ids, too,
-- and pg_snapshot_xmin is the oldest that is still running. All events of transactions below it are visible. So events
-- in the order of (xid, id) up to there are final, and no event can appear before a cursor among them. The price is
-- that an event is returned only when every transaction that began to write before its own has ended.
SELECT * FROM otc.events
WHERE (xid, id) > (CAST(CAST(:xid AS text) AS xid8), :id) AND xid < pg_snapshot_xmin(pg_current_snapshot())
  AND (CAST(:event_types AS text[]) IS NULL OR event_type = ANY(:event_types))
ORDER BY xid, id LIMIT :limit
