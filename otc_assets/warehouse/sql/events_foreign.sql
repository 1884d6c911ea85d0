-- Whether the newest event came with a dump of another server: it is visible, although this server has not begun its
-- transaction yet. NULL if there are no events.
SELECT xid >= pg_snapshot_xmax(pg_current_snapshot()) AND xid IS DISTINCT FROM pg_current_xact_id_if_assigned()
FROM otc.events ORDER BY xid DESC, id DESC LIMIT 1
