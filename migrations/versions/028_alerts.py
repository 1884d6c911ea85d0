"""The outbox of alerts: what is to be told, and to whom it has been told."""

from alembic import op

revision = "028"
down_revision = "027"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.alert (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dedupe_key    text NOT NULL UNIQUE,
    kind          text NOT NULL CHECK (kind IN ('check', 'run')),
    subject       text NOT NULL,
    severity      text NOT NULL CHECK (severity IN ('error', 'warn')),
    week_ending   date,
    title         text NOT NULL,
    body          text NOT NULL,
    run_id        text,
    event_id      bigint NOT NULL,
    happened_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL,
    state         text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'unwanted')),
    due_at        timestamptz NOT NULL,
    claimed_until timestamptz,
    attempts      integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    attempted_at  timestamptz,
    last_error    text,
    delivered_to  text[] NOT NULL DEFAULT '{}',
    delivered_at  timestamptz,
    resolved_at   timestamptz,
    resolved_by   bigint,
    CONSTRAINT delivered_when CHECK ((state = 'delivered') = (delivered_at IS NOT NULL)),
    CONSTRAINT resolved_by_what CHECK ((resolved_at IS NULL) = (resolved_by IS NULL))
);
CREATE INDEX alert_by_subject ON otc.alert (subject, event_id);
CREATE INDEX alert_waiting ON otc.alert (due_at) WHERE state = 'waiting';
CREATE INDEX alert_attempted ON otc.alert (attempted_at);
COMMENT ON TABLE otc.alert IS
    'A failure to tell people of: a check that began to fail for a week, or a run that failed.';
COMMENT ON COLUMN otc.alert.subject IS
    'What fails: a check and its week, as in ''venue_volume.grade 2026-08-21'', or ''run'' and the run''s id.';
COMMENT ON COLUMN otc.alert.event_id IS 'Dagster''s storage id of the event that tells of the failure.';
COMMENT ON COLUMN otc.alert.state IS 'unwanted: there was nobody to tell, because OTC_ALERT_URL was not set.';
COMMENT ON COLUMN otc.alert.claimed_until IS 'Till then a process is sending it; later, that process has died.';
COMMENT ON COLUMN otc.alert.attempts IS 'How often it was handed over, whether it arrived or not.';
COMMENT ON COLUMN otc.alert.delivered_to IS
    'Destinations that have it, each a slow hash of its URL: one that failed is tried again alone.';
COMMENT ON COLUMN otc.alert.resolved_at IS 'When the check passed again for that week; the next failure is news.';
"""

DOWN = """
DROP TABLE otc.alert;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
