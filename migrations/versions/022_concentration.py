"""Concentration: HHI and top shares, by symbol and for the market."""

from alembic import op

revision = "022"
down_revision = "021"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.symbol_concentration (
    week_ending         date NOT NULL,
    tier                text NOT NULL,
    symbol              text NOT NULL,
    venue_scope         text NOT NULL CHECK (venue_scope IN ('ATS', 'NON_ATS', 'ALL')),
    total_volume        numeric(38, 6) NOT NULL,
    venue_count         bigint NOT NULL,
    hhi                 numeric(18, 6) CHECK (hhi BETWEEN 0 AND 10000),
    concentration_level text,
    top_venue           text,
    top_venue_share_pct numeric(18, 6),
    top_3_share_pct     numeric(18, 6),
    effective_venues    numeric(18, 6),
    PRIMARY KEY (week_ending, tier, symbol, venue_scope)
);
CREATE INDEX symbol_concentration_by_symbol ON otc.symbol_concentration (symbol, week_ending);

CREATE TABLE otc.market_concentration (
    week_ending         date NOT NULL,
    tier                text NOT NULL,
    venue_scope         text NOT NULL CHECK (venue_scope IN ('ATS', 'NON_ATS', 'ALL')),
    total_volume        numeric(38, 6) NOT NULL,
    venue_count         bigint NOT NULL,
    hhi                 numeric(18, 6) CHECK (hhi BETWEEN 0 AND 10000),
    concentration_level text,
    top_venue           text,
    top_venue_share_pct numeric(18, 6),
    top_3_share_pct     numeric(18, 6),
    effective_venues    numeric(18, 6),
    PRIMARY KEY (week_ending, tier, venue_scope)
);
COMMENT ON COLUMN otc.market_concentration.tier IS
    'A tier, or ALL once all three tiers of the week are loaded: an HHI can''t be added up.';
"""

DOWN = """
DROP TABLE otc.market_concentration, otc.symbol_concentration;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
