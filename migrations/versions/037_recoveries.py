"""Alerts that a check passed again, which are sent where its failure was sent; and which failures block."""

from alembic import op

revision = "037"
down_revision = "036"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE otc.alert
    ADD COLUMN recovery_of bigint REFERENCES otc.alert (id) ON DELETE CASCADE,
    ADD COLUMN blocking boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT alert_kind_check,
    ADD CONSTRAINT alert_kind_check CHECK (kind IN ('check', 'run', 'recovery')),
    ADD CONSTRAINT recovery_of_what CHECK ((kind = 'recovery') = (recovery_of IS NOT NULL));
CREATE INDEX alert_recoveries ON otc.alert (recovery_of) WHERE recovery_of IS NOT NULL;
"""

DOWN = """
DELETE FROM otc.alert WHERE kind = 'recovery';
DELETE FROM otc.definition WHERE name = 'comments';
ALTER TABLE otc.alert
    DROP COLUMN recovery_of,
    DROP COLUMN blocking,
    DROP CONSTRAINT alert_kind_check,
    ADD CONSTRAINT alert_kind_check CHECK (kind IN ('check', 'run'));
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
