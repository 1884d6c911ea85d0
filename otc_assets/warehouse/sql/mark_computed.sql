-- Records the version from which a week of a table was computed.
INSERT INTO otc.computed_week (table_name, week_ending, version, rows, computed_at)
VALUES (:table_name, :week_ending, :version, :rows, otc.write_moment())
ON CONFLICT (table_name, week_ending) DO UPDATE
SET version = excluded.version, rows = excluded.rows, computed_at = excluded.computed_at, xid = excluded.xid
