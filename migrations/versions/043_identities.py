"""Symbols and venues over time, and figures that follow them: moves, issues, splits, successions, dollars.

The new columns are null in existing rows; both six-week figures have a new code version, so that they are recomputed.
"""

from alembic import op

revision = "043"
down_revision = "042"
branch_labels = None
depends_on = None

ROLLING = {
    "current_trade_size": "numeric(38, 6)",
    "current_notional": "numeric(38, 6)",
    "avg_6w_daily_notional": "numeric(38, 6)",
    "trade_size_vs_avg_pct": "numeric(18, 6)",
    "notional_vs_avg_pct": "numeric(18, 6)",
    "notional_trend": "text",
}
COLUMNS = {
    "symbol_rolling": {**ROLLING, "other_tier": "text", "split_week": "date", "split_ratio": "text"},
    "venue_rolling": {**ROLLING, "identity_id": "text", "predecessors": "text"},
}

REASON = """
ALTER TABLE otc.{table} DROP CONSTRAINT {table}_trend_reason_check;
ALTER TABLE otc.{table} ADD CONSTRAINT {table}_trend_reason_check CHECK (trend_reason IN
    ('too_few_weeks', 'moved_tier', 'tiers_pending', 'another_issue', 'first_week_in_window'));
"""
REASON_DOWN = """
UPDATE otc.{table} SET trend_reason = 'first_week_in_window'
WHERE trend_reason NOT IN ('too_few_weeks', 'first_week_in_window');
ALTER TABLE otc.{table} DROP CONSTRAINT {table}_trend_reason_check;
ALTER TABLE otc.{table}
    ADD CONSTRAINT {table}_trend_reason_check CHECK (trend_reason IN ('too_few_weeks', 'first_week_in_window'));
"""

TABLES = {
    "symbol": (
        """
        week_ending         date NOT NULL,
        tier                text NOT NULL,
        symbol              text NOT NULL,
        issue_name          text,
        issue_count         bigint NOT NULL,
        product_type        text,
        is_new              boolean NOT NULL,
        previous_week       date,
        previous_tier       text,
        previous_issue_name text,
        moved_from_tier     text,
        issue_change        text CHECK (issue_change IN ('renamed', 'another_issue')),
        previous_symbol     text
        """,
        "week_ending, tier, symbol",
    ),
    "venue": (
        """
        week_ending         date NOT NULL,
        venue_id            text NOT NULL,
        identity_id         text NOT NULL,
        venue_kind          text NOT NULL CHECK (venue_kind IN ('ATS', 'NON_ATS', 'DE_MINIMIS')),
        mpid                text,
        firm_crd            text,
        venue_name          text,
        tiers               text NOT NULL,
        is_new              boolean NOT NULL,
        previous_week       date,
        previous_venue_id   text,
        previous_venue_name text
        """,
        "week_ending, venue_id",
    ),
    "venue_succession": (
        """
        week_ending           date NOT NULL,
        predecessor           text NOT NULL,
        successor             text NOT NULL,
        venue_kind            text NOT NULL CHECK (venue_kind IN ('ATS', 'NON_ATS', 'DE_MINIMIS')),
        predecessor_name      text,
        successor_name        text,
        predecessor_last_week date NOT NULL,
        successor_first_week  date NOT NULL,
        predecessor_symbols   bigint NOT NULL,
        successor_symbols     bigint NOT NULL,
        symbols_in_common     bigint NOT NULL,
        symbols_in_common_pct numeric(18, 6),
        volume_in_common_pct  numeric(18, 6),
        volume_ratio_pct      numeric(18, 6),
        decision              text NOT NULL CHECK (decision IN ('proposed', 'confirmed', 'refused'))
        """,
        "week_ending, predecessor, successor",
    ),
}
CREATE = """
CREATE TABLE otc.{table} ({columns}, known_from timestamptz NOT NULL, PRIMARY KEY ({key}));
CREATE TABLE otc.{table}_revision (
    LIKE otc.{table},
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY ({key}, known_to)
);
"""
INDEXES = """
CREATE INDEX symbol_by_symbol ON otc.symbol (symbol, week_ending);
CREATE INDEX venue_by_identity ON otc.venue (identity_id, week_ending);
"""
RETENTION = """
UPDATE otc.retention SET tables = tables || ARRAY['{names}'] WHERE what = 'summaries';
"""
RETENTION_DOWN = """
UPDATE otc.retention SET tables = ARRAY(SELECT unnest(tables) EXCEPT SELECT unnest(ARRAY['{names}']))
WHERE what = 'summaries';
"""
NAMES = "', '".join(name for table in TABLES for name in (table, f"{table}_revision"))

# Weeks in a row have the same difference of their numbers: among all weeks of the identity or symbol, and among those
# of the name. A week without any trades is in neither.
VIEWS = """
CREATE VIEW otc.venue_history AS
SELECT identity_id, venue_id, venue_kind, venue_name,
       min(week_ending) AS first_week, max(week_ending) AS last_week, count(*) AS weeks
FROM (
    SELECT *, dense_rank() OVER (PARTITION BY identity_id ORDER BY week_ending)
        - row_number() OVER (PARTITION BY identity_id, venue_id, venue_kind, venue_name ORDER BY week_ending) AS stretch
    FROM otc.venue
) numbered
GROUP BY identity_id, venue_id, venue_kind, venue_name, stretch;
CREATE VIEW otc.symbol_history AS
SELECT symbol, tier, issue_name, product_type,
       min(week_ending) AS first_week, max(week_ending) AS last_week, count(*) AS weeks
FROM (
    SELECT *, dense_rank() OVER (PARTITION BY symbol ORDER BY week_ending)
        - row_number() OVER (PARTITION BY symbol, tier, issue_name, product_type ORDER BY week_ending) AS stretch
    FROM otc.symbol
) numbered
GROUP BY symbol, tier, issue_name, product_type, stretch;
"""
VIEWS_DOWN = "DROP VIEW otc.symbol_history, otc.venue_history"

# Earlier migrations execute the definitions of these functions again, on their way back.
AS_OF = """
DO $$
DECLARE
    name text;
    columns text;
    types text;
BEGIN
    FOREACH name IN ARRAY ARRAY['symbol_rolling', 'venue_rolling'] LOOP
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
    FOREACH name IN ARRAY ARRAY['symbol', 'venue', 'venue_succession'] LOOP
        EXECUTE format('DROP FUNCTION IF EXISTS otc.%I(timestamptz)', name || '_as_of');
    END LOOP;
END
$$;
DELETE FROM otc.definition WHERE name IN ('symbol_as_of', 'venue_as_of', 'venue_succession_as_of');
"""


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for name in (table, f"{table}_revision"):
            for column, kind in columns.items():
                op.execute(f"ALTER TABLE otc.{name} ADD COLUMN {column} {kind}")
        op.execute(REASON.format(table=table))
    for table, (columns, key) in TABLES.items():
        op.execute(CREATE.format(table=table, columns=columns, key=key))
    op.execute(INDEXES)
    op.execute(RETENTION.format(names=NAMES))
    op.execute(VIEWS)


def downgrade() -> None:
    op.execute(VIEWS_DOWN)
    op.execute(RETENTION_DOWN.format(names=NAMES))
    for table in TABLES:
        for name in (f"{table}_revision", table):
            op.execute(f"DROP TABLE otc.{name}")
    op.execute("DELETE FROM otc.computed_week WHERE table_name IN ('symbol', 'venue', 'venue_succession')")
    for table, columns in COLUMNS.items():
        op.execute(REASON_DOWN.format(table=table))
        for name in (table, f"{table}_revision"):
            for column in columns:
                op.execute(f"ALTER TABLE otc.{name} DROP COLUMN {column}")
    op.execute(AS_OF)
