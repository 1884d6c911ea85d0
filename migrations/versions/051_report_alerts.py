"""Alerts that are no failure: the report of a newly published week."""

from alembic import op

revision = "051"
down_revision = "050"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE otc.alert
    DROP CONSTRAINT alert_kind_check,
    ADD CONSTRAINT alert_kind_check CHECK (kind IN ('check', 'run', 'recovery', 'report'));
"""

DOWN = """
DELETE FROM otc.alert WHERE kind = 'report';
DELETE FROM otc.computed_week WHERE table_name = 'weekly_report';
ALTER TABLE otc.alert
    DROP CONSTRAINT alert_kind_check,
    ADD CONSTRAINT alert_kind_check CHECK (kind IN ('check', 'run', 'recovery'));
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
