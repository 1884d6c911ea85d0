-- weekly_summary_agg on servers without continuous aggregates. symbol_summary has one row per week, symbol and tier:
-- there is nothing to add up, and a condition on the week finds the index, which a bucket of the week would hide.
SELECT week_ending AS week, symbol, tier, total_volume, total_trades, venue_count
FROM otc.symbol_summary
