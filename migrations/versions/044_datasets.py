"""Captures of FINRA's neighbouring data sets, the daily short sale volume, and the estimate from it."""

from alembic import op

revision = "044"
down_revision = "043"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.dataset_capture (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset       text NOT NULL,
    period        date NOT NULL,
    week_ending   date NOT NULL,
    digest        text NOT NULL,
    origin        text NOT NULL,
    bytes         bigint NOT NULL,
    rows_expected bigint NOT NULL,
    rows_received bigint NOT NULL,
    rows_accepted bigint NOT NULL,
    rows_rejected bigint NOT NULL,
    run_id        text,
    captured_at   timestamptz NOT NULL DEFAULT otc.transaction_time(),
    CHECK (rows_received = rows_accepted + rows_rejected)
);
CREATE INDEX dataset_capture_by_period ON otc.dataset_capture (dataset, period, id);

CREATE TABLE otc.dataset_rejected (
    capture_id bigint NOT NULL REFERENCES otc.dataset_capture (id),
    line       bigint NOT NULL,
    record     text NOT NULL,
    reason     text NOT NULL,
    PRIMARY KEY (capture_id, line)
);

CREATE TABLE otc.dataset_gap (
    week_ending date NOT NULL,
    dataset     text NOT NULL,
    period      date NOT NULL,
    status      text NOT NULL,
    due         date NOT NULL,
    fetchable   boolean NOT NULL,
    PRIMARY KEY (week_ending, dataset, period)
);

CREATE TABLE otc.short_volume_daily (
    week_ending         date NOT NULL,
    trade_date          date NOT NULL,
    symbol              text NOT NULL,
    market_code         text NOT NULL,
    facility            text NOT NULL,
    short_volume        numeric(38, 6) NOT NULL,
    short_exempt_volume numeric(38, 6) NOT NULL,
    total_volume        numeric(38, 6) NOT NULL,
    known_from          timestamptz NOT NULL,
    PRIMARY KEY (week_ending, trade_date, symbol, market_code, facility)
);
CREATE INDEX short_volume_daily_by_symbol ON otc.short_volume_daily (symbol, week_ending);
CREATE TABLE otc.short_volume_daily_revision (
    LIKE otc.short_volume_daily,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, trade_date, symbol, market_code, facility, known_to)
);

CREATE TABLE otc.volume_estimate (
    week_ending       date NOT NULL,
    symbol            text NOT NULL,
    trading_days      bigint NOT NULL,
    days_reported     bigint NOT NULL,
    reported_volume   numeric(38, 6) NOT NULL,
    short_volume      numeric(38, 6) NOT NULL,
    short_share_pct   numeric(18, 6),
    calibration       text NOT NULL CHECK (calibration IN ('symbol', 'market', 'none')),
    calibration_weeks bigint NOT NULL,
    calibration_ratio numeric(18, 6) NOT NULL,
    estimated_volume  numeric(38, 6) NOT NULL,
    actual_volume     numeric(38, 6),
    error_pct         numeric(18, 6),
    known_from        timestamptz NOT NULL,
    PRIMARY KEY (week_ending, symbol)
);
CREATE INDEX volume_estimate_by_symbol ON otc.volume_estimate (symbol, week_ending);
CREATE TABLE otc.volume_estimate_revision (
    LIKE otc.volume_estimate,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, symbol, known_to)
);
"""

DOWN = """
DROP FUNCTION IF EXISTS otc.short_volume_daily_as_of(timestamptz), otc.volume_estimate_as_of(timestamptz);
DROP TABLE otc.volume_estimate_revision;
DROP TABLE otc.volume_estimate;
DROP TABLE otc.short_volume_daily_revision;
DROP TABLE otc.short_volume_daily;
DROP TABLE otc.dataset_gap;
DROP TABLE otc.dataset_rejected;
DROP TABLE otc.dataset_capture;
DELETE FROM otc.computed_week WHERE table_name = 'volume_estimate';
DELETE FROM otc.definition WHERE name LIKE '%short_volume_daily%' OR name LIKE '%volume_estimate%';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
