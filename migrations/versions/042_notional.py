"""Figures of the value traded beside those of shares, and the volume with an average trade of block size.

The new columns are null in rows that were computed before, and have no constraints: TimescaleDB adds none to a
compressed table. The figures have a new code version, so their weeks are recomputed where venue volume is kept.
"""

from alembic import op

revision = "042"
down_revision = "041"
branch_labels = None
depends_on = None

SHARES, PERCENT = "numeric(38, 6)", "numeric(18, 6)"
BLOCK_LIKE = {"block_like_volume": SHARES, "block_like_share_pct": PERCENT, "block_undecided_volume": SHARES}
CONCENTRATION = {
    "total_notional": SHARES,
    "notional_hhi_lower": PERCENT,
    "notional_hhi": PERCENT,
    "notional_top_venue": "text",
    "notional_top_venue_share_pct": PERCENT,
    "notional_top_3_share_pct": PERCENT,
}
COLUMNS = {
    "symbol_summary": {
        "implied_price": SHARES,
        "notional_top_venue": "text",
        "notional_top_venue_share_pct": PERCENT,
        **BLOCK_LIKE,
    },
    "venue_share": {
        "total_notional": SHARES,
        "notional_share_pct": PERCENT,
        "notional_rank": "bigint",
        "kind_notional_share_pct": PERCENT,
        "kind_notional_rank": "bigint",
        **BLOCK_LIKE,
    },
    "symbol_concentration": CONCENTRATION,
    "market_concentration": CONCENTRATION,
}

# Earlier migrations execute the definitions of these functions again, on their way back.
AS_OF = """
DO $$
DECLARE
    name text;
    columns text;
    types text;
BEGIN
    FOREACH name IN ARRAY ARRAY['symbol_summary', 'venue_share', 'symbol_concentration', 'market_concentration'] LOOP
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
DELETE FROM otc.definition WHERE name = ANY (ARRAY['symbol_summary_as_of', 'venue_share_as_of',
    'symbol_concentration_as_of', 'market_concentration_as_of']);
"""


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for name in (table, f"{table}_revision"):
            for column, kind in columns.items():
                op.execute(f"ALTER TABLE otc.{name} ADD COLUMN {column} {kind}")


def downgrade() -> None:
    for table, columns in COLUMNS.items():
        for name in (table, f"{table}_revision"):
            for column in reversed(columns):
                op.execute(f"ALTER TABLE otc.{name} DROP COLUMN {column}")
    op.execute(AS_OF)
