"""The threshold list, and how long securities have been on it."""

from alembic import op

revision = "048"
down_revision = "047"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.threshold_security (
    week_ending     date NOT NULL,
    trade_date      date NOT NULL,
    symbol          text NOT NULL,
    issue_name      text,
    market_class    text,
    market_category text,
    threshold_flag  text,
    reg_sho_flag    text,
    rule_4320_flag  text,
    known_from      timestamptz NOT NULL,
    PRIMARY KEY (week_ending, trade_date, symbol)
);
CREATE INDEX threshold_security_by_symbol ON otc.threshold_security (symbol, week_ending);
CREATE TABLE otc.threshold_security_revision (
    LIKE otc.threshold_security,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, trade_date, symbol, known_to)
);

CREATE TABLE otc.threshold_stay (
    week_ending      date NOT NULL,
    symbol           text NOT NULL,
    days_captured    bigint NOT NULL,
    days_listed      bigint NOT NULL,
    listed_at_end    boolean NOT NULL,
    consecutive_days bigint NOT NULL,
    first_day        date NOT NULL,
    at_least         boolean NOT NULL,
    total_volume     numeric(38, 6),
    known_from       timestamptz NOT NULL,
    PRIMARY KEY (week_ending, symbol)
);
CREATE INDEX threshold_stay_by_symbol ON otc.threshold_stay (symbol, week_ending);
CREATE TABLE otc.threshold_stay_revision (
    LIKE otc.threshold_stay,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, symbol, known_to)
);
"""

DOWN = """
DROP FUNCTION IF EXISTS otc.threshold_security_as_of(timestamptz), otc.threshold_stay_as_of(timestamptz);
DROP TABLE otc.threshold_stay_revision;
DROP TABLE otc.threshold_stay;
DROP TABLE otc.threshold_security_revision;
DROP TABLE otc.threshold_security;
DELETE FROM otc.computed_week WHERE table_name = 'threshold_stay';
DELETE FROM otc.definition WHERE name LIKE '%threshold_security%' OR name LIKE '%threshold_stay%';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
