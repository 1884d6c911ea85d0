-- The newest events, newest first; with final only those that no running transaction can add an event before.
SELECT * FROM otc.events
WHERE (NOT :final OR xid < pg_snapshot_xmin(pg_current_snapshot()))
  AND (CAST(:event_type AS text) IS NULL OR event_type = :event_type)
  AND (CAST(:before AS timestamptz) IS NULL OR created_at < :before)
ORDER BY xid DESC, id DESC LIMIT :count
