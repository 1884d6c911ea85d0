-- The rows of venue volume of the newest weeks, by tier. Counting them would read a million rows; the event of their
-- load has the number.
SELECT DISTINCT ON (aggregate_id, tier) aggregate_id AS week, payload ->> 'tier' AS tier,
       (payload ->> 'rows')::bigint AS rows
FROM otc.events
WHERE aggregate_type = 'week' AND event_type = 'otc.week.normalized' AND aggregate_id IN (
    SELECT week_ending::text FROM otc.computed_week
    WHERE table_name = 'venue_volume' ORDER BY week_ending DESC LIMIT %(newest)s
)
ORDER BY aggregate_id, tier, version DESC
