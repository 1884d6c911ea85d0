-- The events of each transaction as JSON, oldest first. {condition} selects the events.
-- Renumbered events of a dump all have the same xid, so transactions are also distinguished by when they began.
SELECT (SELECT journal_id::text FROM otc.journal) AS journal_id,
    jsonb_agg(to_jsonb(e) - 'xid' ORDER BY e.id) AS events
FROM otc.events e WHERE {condition}
GROUP BY e.xid, e.began_at ORDER BY min(e.id) LIMIT 1000
