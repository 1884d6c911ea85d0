"""The HHI is an interval, and the volume of the De Minimis group has a name that can't be added to that of all firms.

The new columns are null in rows that were computed before. They have no constraints: TimescaleDB adds none to a
compressed table. The check `hhi_within_bounds` judges them.
"""

from alembic import op

revision = "041"
down_revision = "040"
branch_labels = None
depends_on = None

CONCENTRATION = tuple(f"{of}_concentration{kept}" for of in ("symbol", "market") for kept in ("", "_revision"))
SUMMARIES = ("symbol_summary", "symbol_summary_revision")
COLUMNS = {
    "total_trades": "bigint",
    "hhi_lower": "numeric(18, 6)",
    "concentration_level_lower": "text",
    "effective_venues_upper": "numeric(18, 6)",
}

# Earlier migrations execute the definitions of these functions again, on their way back.
AS_OF = """
DO $$
DECLARE
    name text;
    columns text;
    types text;
BEGIN
    FOREACH name IN ARRAY ARRAY['symbol_summary', 'symbol_concentration', 'market_concentration'] LOOP
        SELECT string_agg('r.' || attname, ', ' ORDER BY attnum),
               string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) INTO columns, types
        FROM pg_attribute
        WHERE attrelid = format('otc.%I', name)::regclass AND attnum > 0 AND NOT attisdropped;
        EXECUTE format('DROP FUNCTION IF EXISTS otc.%I(timestamptz)', name || '_as_of');
        EXECUTE format($function$
            CREATE FUNCTION otc.%1$I(moment timestamptz) RETURNS TABLE (%2$s)
            LANGUAGE sql STABLE
            AS $body$
                SELECT %3$s FROM otc.require_final(NULL::otc.%4$I, moment, pg_current_snapshot()) r
                UNION ALL
                SELECT %3$s FROM otc.%4$I r WHERE r.known_from <= moment
                UNION ALL
                SELECT %3$s FROM otc.%5$I r WHERE r.known_from <= moment AND r.known_to > moment
            $body$
            $function$, name || '_as_of', types, columns, name, name || '_revision');
    END LOOP;
END
$$;
"""


def upgrade() -> None:
    for table in CONCENTRATION:
        for column, kind in COLUMNS.items():
            op.execute(f"ALTER TABLE otc.{table} ADD COLUMN {column} {kind}")
    for table in SUMMARIES:
        op.execute(f"ALTER TABLE otc.{table} RENAME COLUMN de_minimis_volume TO of_which_de_minimis_volume")


def downgrade() -> None:
    for table in SUMMARIES:
        op.execute(f"ALTER TABLE otc.{table} RENAME COLUMN of_which_de_minimis_volume TO de_minimis_volume")
    for table in CONCENTRATION:
        for column in reversed(COLUMNS):
            op.execute(f"ALTER TABLE otc.{table} DROP COLUMN {column}")
    op.execute(AS_OF)
