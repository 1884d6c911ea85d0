-- One row per week, symbol and tier: the sums of symbol_summary.
-- Buckets of a day keep a Friday's date. Weekly buckets would begin on Monday, and before TimescaleDB 2.25.2 a single
-- one can't be refreshed.
SELECT time_bucket('1 day', week_ending) AS week, symbol, tier,
       sum(total_volume) AS total_volume, sum(total_trades)::bigint AS total_trades,
       max(venue_count) AS venue_count
FROM otc.symbol_summary
GROUP BY 1, 2, 3
