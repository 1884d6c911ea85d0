"""The states of alerts have plain names: 'waiting' becomes 'pending', and 'unwanted' becomes 'discarded'."""

from alembic import op

revision = "036"
down_revision = "035"
branch_labels = None
depends_on = None

_RENAME = """
ALTER TABLE otc.alert DROP CONSTRAINT alert_state_check;
DROP INDEX otc.alert_{pending_before};
UPDATE otc.alert SET state = CASE state WHEN '{pending_before}' THEN '{pending}' ELSE '{discarded}' END
WHERE state IN ('{pending_before}', '{discarded_before}');
ALTER TABLE otc.alert ALTER COLUMN state SET DEFAULT '{pending}';
ALTER TABLE otc.alert ADD CONSTRAINT alert_state_check
    CHECK (state IN ('{pending}', 'delivered', '{discarded}'));
CREATE INDEX alert_{pending} ON otc.alert (due_at) WHERE state = '{pending}';
"""


def upgrade() -> None:
    op.execute(
        _RENAME.format(pending_before="waiting", discarded_before="unwanted", pending="pending", discarded="discarded")
    )


def downgrade() -> None:
    op.execute(
        _RENAME.format(pending_before="pending", discarded_before="discarded", pending="waiting", discarded="unwanted")
    )
