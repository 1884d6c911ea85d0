"""``weekly_summary_agg`` and ``monthly_summary_agg``: continuous aggregates, or views of the same columns."""

from alembic import op

from otc_assets.warehouse import timescale

revision = "025"
down_revision = "024"
branch_labels = None
depends_on = None

AS_OF = """
CREATE FUNCTION otc.weekly_summary_agg_as_of(moment timestamptz)
RETURNS TABLE (week date, symbol text, tier text, total_volume numeric, total_trades bigint, venue_count bigint)
LANGUAGE sql STABLE
AS $$
    SELECT s.week_ending, s.symbol, s.tier, s.total_volume, s.total_trades, s.venue_count
    FROM otc.symbol_summary_as_of(moment) s
$$;
COMMENT ON FUNCTION otc.weekly_summary_agg_as_of IS
    'weekly_summary_agg as it was known at a moment before otc.known_until().';
CREATE FUNCTION otc.monthly_summary_agg_as_of(moment timestamptz)
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
"""


def upgrade() -> None:
    timescale.to_aggregates(op.get_bind())
    op.execute(AS_OF)


def downgrade() -> None:
    op.execute("DROP FUNCTION otc.monthly_summary_agg_as_of(timestamptz)")
    op.execute("DROP FUNCTION otc.weekly_summary_agg_as_of(timestamptz)")
    timescale.drop_aggregates(op.get_bind())
