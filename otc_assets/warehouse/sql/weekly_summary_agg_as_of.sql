-- otc.weekly_summary_agg_as_of(moment): weekly_summary_agg as it was known at a moment before otc.known_until().
CREATE OR REPLACE FUNCTION otc.weekly_summary_agg_as_of(moment timestamptz)
RETURNS TABLE (week date, symbol text, tier text, total_volume numeric, total_trades bigint, venue_count bigint)
LANGUAGE sql STABLE
AS $$
    SELECT s.week_ending, s.symbol, s.tier, s.total_volume, s.total_trades, s.venue_count
    FROM otc.symbol_summary_as_of(moment) s
$$;
COMMENT ON FUNCTION otc.weekly_summary_agg_as_of IS
    'weekly_summary_agg as it was known at a moment before otc.known_until().';
