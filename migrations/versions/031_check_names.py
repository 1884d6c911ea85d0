"""Three checks have new names, and the status of a gap is constrained.

Stored findings and open alerts follow the new names, so that a check that passes resolves the alert of its old name.
An alert keeps its ``dedupe_key``, title and text, and events are immutable: they keep the old names.
"""

from alembic import op

revision = "031"
down_revision = "030"
branch_labels = None
depends_on = None

_NAMES = """
CREATE TEMPORARY TABLE check_names (asset text, old text, new text) ON COMMIT DROP;
INSERT INTO check_names VALUES
    ('venue_volume', 'books_balance', 'rows_reconciled'),
    ('venue_volume', 'few_rejected', 'rejection_rate'),
    ('venue_share', 'shares_add_up', 'shares_sum_to_100');
"""
_RENAME = """
UPDATE otc.week_quality SET findings = (
    SELECT coalesce(jsonb_agg(
        CASE WHEN names.new IS NULL THEN finding ELSE jsonb_set(finding, '{check_name}', to_jsonb(names.new)) END
        ORDER BY place), '[]')
    FROM jsonb_array_elements(findings) WITH ORDINALITY AS found (finding, place)
    LEFT JOIN check_names names ON names.old = finding ->> 'check_name'
)
WHERE EXISTS (
    SELECT FROM jsonb_array_elements(findings) AS finding JOIN check_names names ON names.old = finding ->> 'check_name'
);
UPDATE otc.alert
SET subject = names.asset || '.' || names.new || substr(subject, length(names.asset || '.' || names.old) + 1)
FROM check_names names
WHERE kind = 'check' AND split_part(subject, ' ', 1) = names.asset || '.' || names.old;
DROP TABLE check_names;
"""

UP = f"""
{_NAMES}
{_RENAME}
ALTER TABLE otc.gap ADD CONSTRAINT gap_status_check
    CHECK (status IN ('pending', 'late', 'missing_inside', 'missing_at_end', 'incomplete', 'empty'));
"""

DOWN = f"""
ALTER TABLE otc.gap DROP CONSTRAINT gap_status_check;
{_NAMES}
UPDATE check_names SET old = new, new = old;
{_RENAME}
"""  # noqa: S608 - constants of this file


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
