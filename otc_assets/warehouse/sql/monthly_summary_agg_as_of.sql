-- otc.monthly_summary_agg_as_of(moment): monthly_summary_agg as it was known at a moment before otc.known_until().
CREATE OR REPLACE FUNCTION otc.monthly_summary_agg_as_of(moment timestamptz)
RETURNS TABLE (month date, symbol text, tier text, total_volume numeric, total_trades bigint, max_venue_count bigint,
    weeks bigint)
LANGUAGE sql STABLE
AS $$
    SELECT date_trunc('month', w.week)::date, w.symbol, w.tier, sum(w.total_volume), sum(w.total_trades)::bigint,
        max(w.venue_count), count(*)
    FROM otc.weekly_summary_agg_as_of(moment) w GROUP BY 1, 2, 3
$$;
COMMENT ON FUNCTION otc.monthly_summary_agg_as_of IS
    'monthly_summary_agg as it was known at a moment before otc.known_until().';
