"""FINRA's trading outside ATSs by month, and each firm's month against the weeks."""

from alembic import op

revision = "050"
down_revision = "049"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.otc_month (
    week_ending            date NOT NULL,
    month_start            date NOT NULL,
    market                 text NOT NULL,
    summary_type           text NOT NULL,
    symbol                 text NOT NULL,
    issue_name             text NOT NULL,
    firm_crd               text NOT NULL,
    firm_name              text,
    product_type           text NOT NULL,
    total_trades           bigint NOT NULL,
    total_volume           numeric(38, 6) NOT NULL,
    total_notional         numeric(38, 6),
    last_update_date       date,
    initial_published_date date,
    known_from             timestamptz NOT NULL,
    PRIMARY KEY (week_ending, month_start, market, summary_type, symbol, issue_name, firm_crd, product_type)
);
CREATE INDEX otc_month_by_symbol ON otc.otc_month (symbol, week_ending);
CREATE INDEX otc_month_by_firm ON otc.otc_month (firm_crd, week_ending);
CREATE TABLE otc.otc_month_revision (
    LIKE otc.otc_month,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (
        week_ending, month_start, market, summary_type, symbol, issue_name, firm_crd, product_type, known_to
    )
);

CREATE TABLE otc.firm_month (
    week_ending           date NOT NULL,
    month_start           date NOT NULL,
    market                text NOT NULL,
    venue_id              text NOT NULL,
    firm_name             text,
    total_volume          numeric(38, 6) NOT NULL,
    total_trades          bigint NOT NULL,
    total_notional        numeric(38, 6),
    symbol_count          bigint NOT NULL,
    avg_trade_size        numeric(38, 6),
    market_share_pct      numeric(18, 6),
    rank                  bigint NOT NULL,
    whole_weeks_volume    numeric(38, 6),
    touching_weeks_volume numeric(38, 6),
    unnamed_volume        numeric(38, 6),
    against_weeks         text,
    known_from            timestamptz NOT NULL,
    PRIMARY KEY (week_ending, market, venue_id)
);
CREATE INDEX firm_month_by_venue ON otc.firm_month (venue_id, week_ending);
CREATE TABLE otc.firm_month_revision (
    LIKE otc.firm_month,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, market, venue_id, known_to)
);
"""

DOWN = """
DROP FUNCTION IF EXISTS otc.otc_month_as_of(timestamptz), otc.firm_month_as_of(timestamptz);
DROP TABLE otc.firm_month_revision;
DROP TABLE otc.firm_month;
DROP TABLE otc.otc_month_revision;
DROP TABLE otc.otc_month;
DELETE FROM otc.computed_week WHERE table_name = 'firm_month';
DELETE FROM otc.definition WHERE name LIKE '%otc_month%' OR name LIKE '%firm_month%';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
