-- Rows of venue volume that a revision replaced, beside the rows of today.
SELECT old.week_ending, old.tier, old.symbol, old.issue_name, old.product_type, old.venue_kind, old.venue_id,
    old.venue_name, old.known_from, old.known_to, old.change, old.share_volume, old.trade_count,
    new.share_volume AS share_volume_now, new.trade_count AS trade_count_now,
    round(100 * (new.share_volume / nullif(old.share_volume, 0) - 1), 6) AS share_volume_change_pct
FROM otc.venue_volume_revision AS old
LEFT JOIN otc.venue_volume AS new USING (week_ending, tier, symbol, issue_name, product_type, venue_id)
