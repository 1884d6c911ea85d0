-- monthly_summary_agg on servers without continuous aggregates. The month of each day is joined to the weeks, so that a
-- condition on the month becomes one on the week, which finds the index. A month computed from the week would hide it.
SELECT of.month, w.symbol, w.tier,
       sum(w.total_volume) AS total_volume, sum(w.total_trades)::bigint AS total_trades,
       max(w.venue_count) AS max_venue_count, count(*) AS weeks
FROM (
    SELECT day::date AS week, date_trunc('month', day)::date AS month
    FROM (SELECT min(week)::timestamp AS first, max(week)::timestamp AS last FROM otc.weekly_summary_agg) stored,
        generate_series(first, last, interval '1 day') day
) of JOIN otc.weekly_summary_agg w ON w.week = of.week
GROUP BY of.month, w.symbol, w.tier
