"""Blocks of ATSs and of other firms by month, and the share of blocks in their trading."""

from alembic import op

revision = "049"
down_revision = "048"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.ats_block (
    week_ending            date NOT NULL,
    month_start            date NOT NULL,
    mpid                   text NOT NULL,
    venue_name             text,
    category               text NOT NULL,
    category_name          text,
    total_trades           bigint NOT NULL,
    total_volume           numeric(38, 6) NOT NULL,
    block_trades           bigint NOT NULL,
    block_volume           numeric(38, 6) NOT NULL,
    last_update_date       date,
    initial_published_date date,
    known_from             timestamptz NOT NULL,
    PRIMARY KEY (week_ending, month_start, mpid, category)
);
CREATE INDEX ats_block_by_mpid ON otc.ats_block (mpid, week_ending);
CREATE TABLE otc.ats_block_revision (
    LIKE otc.ats_block,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, month_start, mpid, category, known_to)
);

CREATE TABLE otc.otc_block (
    week_ending            date NOT NULL,
    month_start            date NOT NULL,
    firm_name              text NOT NULL,
    category               text NOT NULL,
    category_name          text,
    total_trades           bigint NOT NULL,
    total_volume           numeric(38, 6) NOT NULL,
    block_trades           bigint NOT NULL,
    block_volume           numeric(38, 6) NOT NULL,
    last_update_date       date,
    initial_published_date date,
    known_from             timestamptz NOT NULL,
    PRIMARY KEY (week_ending, month_start, firm_name, category)
);
CREATE INDEX otc_block_by_firm_name ON otc.otc_block (firm_name, week_ending);
CREATE TABLE otc.otc_block_revision (
    LIKE otc.otc_block,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, month_start, firm_name, category, known_to)
);

CREATE TABLE otc.block_share (
    week_ending            date NOT NULL,
    month_start            date NOT NULL,
    venue_kind             text NOT NULL,
    venue                  text NOT NULL,
    category               text NOT NULL,
    block_trades           bigint NOT NULL,
    block_volume           numeric(38, 6) NOT NULL,
    total_volume           numeric(38, 6) NOT NULL,
    block_share_pct        numeric(18, 6),
    avg_block_size         numeric(38, 6),
    market_block_share_pct numeric(18, 6),
    whole_weeks_volume     numeric(38, 6),
    touching_weeks_volume  numeric(38, 6),
    against_weeks          text,
    known_from             timestamptz NOT NULL,
    PRIMARY KEY (week_ending, venue_kind, venue, category)
);
CREATE INDEX block_share_by_venue ON otc.block_share (venue, week_ending);
CREATE TABLE otc.block_share_revision (
    LIKE otc.block_share,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, venue_kind, venue, category, known_to)
);
"""

DOWN = """
DROP FUNCTION IF EXISTS otc.ats_block_as_of(timestamptz), otc.otc_block_as_of(timestamptz);
DROP FUNCTION IF EXISTS otc.block_share_as_of(timestamptz);
DROP TABLE otc.block_share_revision;
DROP TABLE otc.block_share;
DROP TABLE otc.otc_block_revision;
DROP TABLE otc.otc_block;
DROP TABLE otc.ats_block_revision;
DROP TABLE otc.ats_block;
DELETE FROM otc.computed_week WHERE table_name = 'block_share';
DELETE FROM otc.definition WHERE name LIKE '%ats_block%' OR name LIKE '%otc_block%' OR name LIKE '%block_share%';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
