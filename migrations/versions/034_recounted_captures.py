"""The event of a capture whose rows were counted again under changed rules: the file's counts follow.

``otc.project_event`` gets one more case; the others stay as they are.
"""

from alembic import op

revision = "034"
down_revision = "033"
branch_labels = None
depends_on = None

BEFORE = "    WHEN 'otc.file.rejected' THEN\n"
RECOUNTED = """\
    WHEN 'otc.capture.recounted' THEN
        UPDATE otc.file_ledger l SET
            rows_received = l.rows_received
                + (event.payload ->> 'rows_received')::bigint - (event.payload ->> 'rows_received_before')::bigint,
            rows_accepted = l.rows_accepted
                + (event.payload ->> 'rows_accepted')::bigint - (event.payload ->> 'rows_accepted_before')::bigint,
            rows_rejected = l.rows_rejected
                + (event.payload ->> 'rows_rejected')::bigint - (event.payload ->> 'rows_rejected_before')::bigint,
            last_at = moment
        WHERE l.file = event.aggregate_id AND l.publications > 0;
"""

REPLACE = """
DO $do$
DECLARE
    body text := pg_get_functiondef('otc.project_event(otc.events)'::regprocedure);
BEGIN
    IF strpos(body, $text${before}$text$) = 0 THEN
        RAISE EXCEPTION 'otc.project_event is not as the migration before this one left it';
    END IF;
    EXECUTE replace(body, $text${before}$text$, $text${after}$text$);
END
$do$;
"""


def upgrade() -> None:
    op.execute(REPLACE.format(before=BEFORE, after=RECOUNTED + BEFORE))
    # There are no such events yet: nothing to replay.


def downgrade() -> None:
    op.execute(REPLACE.format(before=RECOUNTED, after=""))
