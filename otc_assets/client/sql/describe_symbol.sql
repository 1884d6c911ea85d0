-- What is known of a symbol: its names and weeks, and the figures of its newest week.
WITH weeks AS (
    SELECT min(week_ending) AS first_week, max(week_ending) AS last_week, count(DISTINCT week_ending) AS weeks
    FROM otc.symbol WHERE symbol = %(name)s
)
SELECT s.symbol, s.issue_name, s.tier, s.product_type, w.first_week, w.last_week, w.weeks,
    m.total_volume, m.total_trades, m.total_notional, m.venue_count, m.avg_trade_size,
    m.top_venue, m.top_venue_share_pct, round(100 * m.ats_volume / nullif(m.total_volume, 0), 6) AS ats_share_pct,
    r.avg_6w_volume, r.volume_vs_avg_pct, r.trend, r.trend_reason,
    c.hhi_lower, c.hhi, c.concentration_level,
    (SELECT string_agg(DISTINCT h.issue_name, '; ') FROM otc.symbol AS h
     WHERE h.symbol = %(name)s AND h.issue_name <> s.issue_name) AS other_names
FROM weeks AS w
JOIN otc.symbol AS s ON s.symbol = %(name)s AND s.week_ending = w.last_week
LEFT JOIN otc.symbol_summary AS m USING (week_ending, tier, symbol)
LEFT JOIN otc.symbol_rolling AS r USING (week_ending, tier, symbol)
LEFT JOIN otc.symbol_concentration AS c
    ON c.week_ending = s.week_ending AND c.tier = s.tier AND c.symbol = s.symbol AND c.venue_scope = 'ALL'
ORDER BY m.total_volume DESC NULLS LAST
