"""Six-week figures of symbols and venues."""

from alembic import op

revision = "021"
down_revision = "020"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.symbol_rolling (
    week_ending          date NOT NULL,
    tier                 text NOT NULL,
    symbol               text NOT NULL,
    current_volume       numeric(38, 6) NOT NULL,
    avg_6w_volume        numeric(38, 6),
    avg_6w_trades        numeric(38, 6),
    avg_6w_trade_size    numeric(38, 6),
    volume_vs_avg_pct    numeric(18, 6),
    trend                text NOT NULL CHECK (trend IN ('up', 'down', 'stable')),
    weeks_in_window      bigint NOT NULL,
    weeks_traded         bigint NOT NULL,
    weeks_without_trades bigint NOT NULL,
    earliest_week        date NOT NULL,
    avg_6w_venue_count   numeric(38, 6),
    weeks_in_other_tier  bigint NOT NULL,
    PRIMARY KEY (week_ending, tier, symbol)
);
CREATE INDEX symbol_rolling_by_symbol ON otc.symbol_rolling (symbol, week_ending);

CREATE TABLE otc.venue_rolling (
    week_ending          date NOT NULL,
    tier                 text NOT NULL,
    venue_id             text NOT NULL,
    venue_kind           text NOT NULL,
    current_volume       numeric(38, 6) NOT NULL,
    avg_6w_volume        numeric(38, 6),
    avg_6w_trades        numeric(38, 6),
    avg_6w_trade_size    numeric(38, 6),
    volume_vs_avg_pct    numeric(18, 6),
    trend                text NOT NULL CHECK (trend IN ('up', 'down', 'stable')),
    weeks_in_window      bigint NOT NULL,
    weeks_traded         bigint NOT NULL,
    weeks_without_trades bigint NOT NULL,
    earliest_week        date NOT NULL,
    avg_6w_symbol_count  numeric(38, 6),
    avg_6w_share_pct     numeric(18, 6),
    PRIMARY KEY (week_ending, tier, venue_id)
);
CREATE INDEX venue_rolling_by_venue ON otc.venue_rolling (venue_id, week_ending);
"""

DOWN = """
DROP TABLE otc.venue_rolling, otc.symbol_rolling;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
