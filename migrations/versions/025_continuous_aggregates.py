"""The aggregates as of a moment; and the way back from the aggregates.

``weekly_summary_agg`` and ``monthly_summary_agg`` themselves are created after the migrations, by every
``otc-assets migrate``: continuous aggregates, or views of the same names and columns.
"""

from alembic import op

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

DOWN = """
DROP FUNCTION otc.monthly_summary_agg_as_of(timestamptz);
DROP FUNCTION otc.weekly_summary_agg_as_of(timestamptz);
DO $$
DECLARE
    name text;
    continuous boolean;
BEGIN
    FOREACH name IN ARRAY ARRAY['monthly_summary_agg', 'weekly_summary_agg'] LOOP
        continuous := false;
        IF to_regclass('timescaledb_information.continuous_aggregates') IS NOT NULL THEN
            EXECUTE format('SELECT EXISTS (SELECT FROM timescaledb_information.continuous_aggregates'
                ' WHERE view_schema = ''otc'' AND view_name = %L)', name) INTO continuous;
        END IF;
        EXECUTE format('DROP %s IF EXISTS otc.%I', CASE WHEN continuous THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, name);
    END LOOP;
END
$$;
DROP FUNCTION IF EXISTS otc.bucket(text, date);
"""


def upgrade() -> None:
    op.execute(AS_OF)


def downgrade() -> None:
    op.execute(DOWN)
