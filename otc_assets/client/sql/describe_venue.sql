-- What is known of a venue: its names and weeks, and its figures by tier in its newest week.
WITH weeks AS (
    SELECT min(week_ending) AS first_week, max(week_ending) AS last_week, count(*) AS weeks
    FROM otc.venue WHERE venue_id = %(name)s
)
SELECT v.venue_id, v.venue_name, v.venue_kind, v.mpid, v.firm_crd, v.identity_id,
    w.first_week, w.last_week, w.weeks, s.tier, s.total_volume, s.total_trades, s.symbol_count, s.avg_trade_size,
    s.market_share_pct, s.rank, s.kind_share_pct, s.kind_rank, r.avg_6w_share_pct, r.volume_vs_avg_pct, r.trend,
    (SELECT string_agg(DISTINCT o.venue_id, '; ') FROM otc.venue AS o
     WHERE o.identity_id = v.identity_id AND o.venue_id <> v.venue_id) AS other_ids
FROM weeks AS w
JOIN otc.venue AS v ON v.venue_id = %(name)s AND v.week_ending = w.last_week
LEFT JOIN otc.venue_share AS s USING (week_ending, venue_id)
LEFT JOIN otc.venue_rolling AS r USING (week_ending, tier, venue_id)
ORDER BY s.tier
