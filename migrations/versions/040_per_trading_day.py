"""Six-week figures per trading day, and the reason why a row has no trend.

The new columns are null in existing rows. Both figures have a new code version, so their weeks are recomputed.
"""

from alembic import op

revision = "040"
down_revision = "039"
branch_labels = None
depends_on = None

TABLES = ("symbol_rolling", "venue_rolling")

COLUMNS = """
ALTER TABLE otc.{table}
    ADD COLUMN trading_days             bigint,
    ADD COLUMN window_trading_days      bigint,
    ADD COLUMN current_daily_volume     numeric(38, 6),
    ADD COLUMN avg_6w_daily_volume      numeric(38, 6),
    ADD COLUMN avg_6w_daily_trades      numeric(38, 6),
    ADD COLUMN weekly_volume_vs_avg_pct numeric(18, 6),
    ADD COLUMN trend_reason             text;
ALTER TABLE otc.{table} ALTER COLUMN trend DROP NOT NULL;
"""
CONSTRAINTS = """
ALTER TABLE otc.{table}
    ADD CONSTRAINT {table}_trend_reason_check CHECK (trend_reason IN ('too_few_weeks', 'first_week_in_window'));
ALTER TABLE otc.{table} ADD CONSTRAINT {table}_no_trend_why CHECK ((trend IS NULL) = (trend_reason IS NOT NULL));
"""

CONSTRAINTS_DOWN = """
ALTER TABLE otc.{table} DROP CONSTRAINT {table}_trend_reason_check, DROP CONSTRAINT {table}_no_trend_why;
"""
COLUMNS_DOWN = """
UPDATE otc.{table} SET trend = 'stable' WHERE trend IS NULL;
ALTER TABLE otc.{table} ALTER COLUMN trend SET NOT NULL;
ALTER TABLE otc.{table}
    DROP COLUMN trading_days, DROP COLUMN window_trading_days, DROP COLUMN current_daily_volume,
    DROP COLUMN avg_6w_daily_volume, DROP COLUMN avg_6w_daily_trades, DROP COLUMN weekly_volume_vs_avg_pct,
    DROP COLUMN trend_reason;
"""
# Older migrations replace the as-of functions on the way down, so the functions must fit the tables.
AS_OF_DOWN = r"""
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT oid::regprocedure AS function, pg_get_functiondef(oid) AS definition FROM pg_proc
        WHERE pronamespace = 'otc'::regnamespace AND proname IN ('symbol_rolling_as_of', 'venue_rolling_as_of')
    LOOP
        EXECUTE 'DROP FUNCTION ' || found.function;
        EXECUTE regexp_replace(found.definition,
            ', (r\.)?(trading_days|window_trading_days|current_daily_volume|avg_6w_daily_volume|avg_6w_daily_trades'
            '|weekly_volume_vs_avg_pct|trend_reason)( bigint| numeric| text)?', '', 'g');
    END LOOP;
END
$$;
DELETE FROM otc.definition WHERE name IN ('symbol_rolling_as_of', 'venue_rolling_as_of');
"""


def upgrade() -> None:
    for table in TABLES:
        for name in (table, f"{table}_revision"):
            op.execute(COLUMNS.format(table=name))
        op.execute(CONSTRAINTS.format(table=table))


def downgrade() -> None:
    for table in TABLES:
        op.execute(CONSTRAINTS_DOWN.format(table=table))
        for name in (table, f"{table}_revision"):
            op.execute(COLUMNS_DOWN.format(table=name))
    op.execute(AS_OF_DOWN)
