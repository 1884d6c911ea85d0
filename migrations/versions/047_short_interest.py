"""Consolidated short interest, and the estimate of the share of trading that is off exchange."""

from alembic import op

revision = "047"
down_revision = "046"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.short_interest (
    week_ending             date NOT NULL,
    settlement_date         date NOT NULL,
    symbol                  text NOT NULL,
    issue_name              text,
    market_class            text,
    exchange_code           text,
    accounting_date         text,
    short_position          numeric(38, 6) NOT NULL,
    previous_short_position numeric(38, 6),
    position_change         numeric(38, 6),
    change_pct              numeric(38, 6),
    avg_daily_volume        numeric(38, 6) NOT NULL,
    days_to_cover           numeric(38, 6),
    stock_split_flag        text,
    revision_flag           text,
    known_from              timestamptz NOT NULL,
    PRIMARY KEY (week_ending, settlement_date, symbol)
);
CREATE INDEX short_interest_by_symbol ON otc.short_interest (symbol, week_ending);
CREATE TABLE otc.short_interest_revision (
    LIKE otc.short_interest,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, settlement_date, symbol, known_to)
);

CREATE TABLE otc.off_exchange_share (
    week_ending            date NOT NULL,
    symbol                 text NOT NULL,
    settlement_date        date NOT NULL,
    trading_days           bigint NOT NULL,
    total_volume           numeric(38, 6) NOT NULL,
    ats_volume             numeric(38, 6) NOT NULL,
    avg_daily_volume       numeric(38, 6) NOT NULL,
    consolidated_volume    numeric(38, 6) NOT NULL,
    off_exchange_share_pct numeric(18, 6),
    ats_share_pct          numeric(18, 6),
    share_reason           text CHECK (share_reason IN ('split', 'no_volume')),
    short_position         numeric(38, 6) NOT NULL,
    days_to_cover          numeric(38, 6),
    known_from             timestamptz NOT NULL,
    PRIMARY KEY (week_ending, symbol),
    CONSTRAINT off_exchange_share_no_share_why CHECK ((off_exchange_share_pct IS NULL) = (share_reason IS NOT NULL))
);
CREATE INDEX off_exchange_share_by_symbol ON otc.off_exchange_share (symbol, week_ending);
CREATE TABLE otc.off_exchange_share_revision (
    LIKE otc.off_exchange_share,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, symbol, known_to)
);
"""

DOWN = """
DROP FUNCTION IF EXISTS otc.short_interest_as_of(timestamptz), otc.off_exchange_share_as_of(timestamptz);
DROP TABLE otc.off_exchange_share_revision;
DROP TABLE otc.off_exchange_share;
DROP TABLE otc.short_interest_revision;
DROP TABLE otc.short_interest;
DELETE FROM otc.computed_week WHERE table_name = 'off_exchange_share';
DELETE FROM otc.definition WHERE name LIKE '%short_interest%' OR name LIKE '%off_exchange_share%';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
