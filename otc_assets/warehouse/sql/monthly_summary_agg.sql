-- One row per month, symbol and tier: the sums of weekly_summary_agg.
SELECT time_bucket('1 month', week) AS month, symbol, tier,
       sum(total_volume) AS total_volume, sum(total_trades)::bigint AS total_trades,
       max(venue_count) AS max_venue_count, count(*) AS weeks
FROM otc.weekly_summary_agg
GROUP BY 1, 2, 3
