"""Alerts of checks refer to events of ``otc.events``, and no longer to Dagster's.

The ids of both are not comparable: stored alerts of checks get 0, which is before every event. Their order remains
right, because open and resolved alerts stay so. An open alert whose check has no event under its name (it was renamed,
or its event is older than the event store) is resolved, because no recovery of that check would resolve it: if the
check still fails, it is a new alert.
"""

from alembic import op

revision = "033"
down_revision = "032"
branch_labels = None
depends_on = None

RENUMBER = """
UPDATE otc.alert SET event_id = 0, resolved_by = CASE WHEN resolved_by IS NOT NULL THEN 0 END WHERE kind = 'check';
"""

RESOLVE = """
UPDATE otc.alert SET resolved_at = now(), resolved_by = 0
WHERE kind = 'check' AND resolved_by IS NULL
  AND NOT EXISTS (SELECT FROM otc.events WHERE aggregate_type = 'check' AND aggregate_id = subject);
"""


def upgrade() -> None:
    op.execute(RENUMBER)
    op.execute(RESOLVE)


def downgrade() -> None:
    op.execute(RENUMBER)
