"""What revisions changed, removed and added, in one view."""

from alembic import op

revision = "052"
down_revision = "051"
branch_labels = None
depends_on = None

# Only weeks that were revised are read. A row is added if it came after the week's first load and replaced none.
UP = """
CREATE VIEW otc.revised_volume AS
SELECT old.week_ending, old.tier, old.symbol, old.issue_name, old.product_type, old.venue_kind, old.venue_id,
    old.venue_name, old.known_from, old.known_to, old.change, old.share_volume, old.trade_count,
    new.share_volume AS share_volume_now, new.trade_count AS trade_count_now,
    round(100 * (new.share_volume / nullif(old.share_volume, 0) - 1), 6) AS share_volume_change_pct
FROM otc.venue_volume_revision old
LEFT JOIN otc.venue_volume new USING (week_ending, tier, symbol, issue_name, product_type, venue_id)
UNION ALL
SELECT new.week_ending, new.tier, new.symbol, new.issue_name, new.product_type, new.venue_kind, new.venue_id,
    new.venue_name, NULL::timestamptz, new.known_from, 'added', NULL::numeric, NULL::bigint,
    new.share_volume, new.trade_count, NULL::numeric
FROM otc.week_state state
CROSS JOIN LATERAL (
    SELECT least(
        (SELECT min(v.known_from) FROM otc.venue_volume v
         WHERE v.week_ending = state.week_ending AND v.tier = state.tier),
        (SELECT min(r.known_from) FROM otc.venue_volume_revision r
         WHERE r.week_ending = state.week_ending AND r.tier = state.tier)
    ) AS loaded
) first
JOIN otc.venue_volume new
    ON new.week_ending = state.week_ending AND new.tier = state.tier AND new.known_from > first.loaded
WHERE state.revisions > 0 AND NOT EXISTS (
    SELECT FROM otc.venue_volume_revision old
    WHERE old.week_ending = new.week_ending AND old.tier = new.tier AND old.symbol = new.symbol
        AND old.issue_name = new.issue_name AND old.product_type = new.product_type AND old.venue_id = new.venue_id
        AND old.known_to = new.known_from
);
"""

DOWN = "DROP VIEW otc.revised_volume"


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
