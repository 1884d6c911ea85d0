"""What changed in each week, one row per change."""

from alembic import op

revision = "046"
down_revision = "045"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.week_changes (
    week_ending date NOT NULL,
    tier        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN (
        'symbol_entered', 'symbol_exited', 'symbol_moved_tier', 'symbol_renamed', 'symbol_other_issue',
        'symbol_new_ticker', 'symbol_split', 'symbol_volume', 'venue_entered', 'venue_exited', 'venue_renamed',
        'venue_succession', 'venue_proposal', 'venue_rank', 'venue_share', 'revised'
    )),
    subject     text NOT NULL,
    rank        bigint NOT NULL,
    symbol      text,
    venue_id    text,
    previous    text,
    current     text,
    amount      numeric(38, 6),
    evidence    text NOT NULL,
    known_from  timestamptz NOT NULL,
    PRIMARY KEY (week_ending, tier, kind, subject)
);
CREATE TABLE otc.week_changes_revision (
    LIKE otc.week_changes,
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY (week_ending, tier, kind, subject, known_to)
);
CREATE INDEX week_changes_by_symbol ON otc.week_changes (symbol, week_ending) WHERE symbol IS NOT NULL;
CREATE INDEX week_changes_by_venue ON otc.week_changes (venue_id, week_ending) WHERE venue_id IS NOT NULL;
UPDATE otc.retention SET tables = tables || ARRAY['week_changes', 'week_changes_revision'] WHERE what = 'summaries';
CREATE VIEW otc.newest_week_changes AS
SELECT c.* FROM otc.week_changes c
JOIN (SELECT tier, max(week_ending) AS week_ending FROM otc.week_changes GROUP BY tier) n USING (tier, week_ending);
"""
DOWN = """
DROP VIEW otc.newest_week_changes;
UPDATE otc.retention SET tables = ARRAY(
    SELECT unnest(tables) EXCEPT SELECT unnest(ARRAY['week_changes', 'week_changes_revision'])
) WHERE what = 'summaries';
DROP TABLE otc.week_changes_revision;
DROP TABLE otc.week_changes;
DROP FUNCTION IF EXISTS otc.week_changes_as_of(timestamptz);
DELETE FROM otc.definition WHERE name = 'week_changes_as_of';
DELETE FROM otc.computed_week WHERE table_name = 'week_changes';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
