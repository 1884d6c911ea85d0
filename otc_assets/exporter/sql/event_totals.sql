-- The totals of the events between two transaction ids that the last snapshot did not see.
-- Events that came with a dump have transaction ids of another server, which mean nothing in our snapshots. They are
-- those that existed at the first scrape although their transactions had not begun on this server.
-- The bucket is the number of bounds below the value; a value that equals a bound belongs to that bound.
SELECT event_type, payload ->> 'tier' AS tier, payload ->> 'table' AS table_name,
       payload ->> 'asset' AS asset, payload ->> 'check' AS check_name,
       payload ->> 'severity' AS severity, payload ->> 'blocking' AS blocking,
       cardinality(%(negative)s::float8[])
           - width_bucket(-(payload ->> 'seconds')::float8, %(negative)s::float8[]) AS bucket,
       count(*) AS events,
       sum((payload ->> 'seconds')::numeric) AS seconds,
       sum((payload ->> 'rows_accepted')::bigint) AS accepted,
       sum((payload ->> 'rows_rejected')::bigint) AS rejected
FROM otc.events
WHERE xid >= %(after)s::text::xid8 AND xid < %(upto)s::text::xid8
  AND NOT coalesce(pg_visible_in_snapshot(xid, %(seen)s::text::pg_snapshot), false)
  AND NOT (xid >= %(restored_from)s::text::xid8 AND id <= %(restored_to)s)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
