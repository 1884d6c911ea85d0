-- One row per tier: its symbols, and how many differ between symbol_summary, weekly_summary_agg and venue volume.
WITH stored AS (
    SELECT tier, symbol, total_volume, total_trades, venue_count FROM otc.symbol_summary
    WHERE week_ending = :week_ending
), aggregated AS (
    SELECT tier, symbol, total_volume, total_trades, venue_count FROM otc.weekly_summary_agg
    WHERE week = :week_ending
), summed AS (
    SELECT tier, symbol, sum(share_volume) AS total_volume, sum(trade_count)::bigint AS total_trades,
        count(DISTINCT venue_id) AS venue_count
    FROM otc.venue_volume WHERE week_ending = :week_ending GROUP BY tier, symbol
)
SELECT tier, count(*) AS symbols,
    count(*) FILTER (WHERE aggregated IS DISTINCT FROM stored) AS aggregate_differs,
    count(*) FILTER (WHERE summed IS DISTINCT FROM stored) AS volume_differs
FROM stored FULL JOIN aggregated USING (tier, symbol) FULL JOIN summed USING (tier, symbol)
GROUP BY tier ORDER BY tier
