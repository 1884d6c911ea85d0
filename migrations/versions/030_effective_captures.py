"""Captures can be quarantined, accepted and withdrawn, and each half of a publication has its own newest date.

Which captures are effective follows from these columns; nothing is deleted.
"""

from alembic import op

revision = "030"
down_revision = "029"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE otc.publication
    ADD COLUMN ats_last_update_date     date,
    ADD COLUMN non_ats_last_update_date date,
    ADD COLUMN quarantine_reason        text,
    ADD COLUMN accepted_at              timestamptz,
    ADD COLUMN accepted_over            date,
    ADD COLUMN withdrawn_at             timestamptz,
    ADD COLUMN withdrawal_reason        text,
    ADD COLUMN rows_in_use              bigint,
    ADD CONSTRAINT accepted_over_what CHECK ((accepted_at IS NULL) = (accepted_over IS NULL)),
    ADD CONSTRAINT withdrawn_why CHECK ((withdrawn_at IS NULL) = (withdrawal_reason IS NULL));
UPDATE otc.publication SET
    ats_last_update_date = CASE WHEN scope <> 'NON_ATS' THEN last_update_date END,
    non_ats_last_update_date = CASE WHEN scope <> 'ATS' THEN last_update_date END;
CREATE INDEX publication_by_digest ON otc.publication (digest);
COMMENT ON COLUMN otc.publication.last_update_date IS 'The newest lastUpdateDate of its rows.';
COMMENT ON COLUMN otc.publication.ats_last_update_date IS 'The newest lastUpdateDate of its ATS rows.';
COMMENT ON COLUMN otc.publication.non_ats_last_update_date IS 'The newest lastUpdateDate of its other rows.';
COMMENT ON COLUMN otc.publication.quarantine_reason IS
    'Why the capture can''t be a revision of the one before it; it is not effective until it is accepted.';
COMMENT ON COLUMN otc.publication.accepted_at IS 'When an operator accepted the quarantined capture.';
COMMENT ON COLUMN otc.publication.accepted_over IS
    'The newest lastUpdateDate of the captures that were effective when it was accepted; it takes precedence.';
COMMENT ON COLUMN otc.publication.withdrawn_at IS 'When an operator withdrew the capture; it is not effective.';
COMMENT ON COLUMN otc.publication.rows_in_use IS
    'How many of its rows are in venue_volume and published_total, as of the week''s last computation.';

ALTER TABLE otc.published_total ADD COLUMN last_update_date date;
COMMENT ON COLUMN otc.published_total.last_update_date IS 'When FINRA last wrote the total.';
"""

DOWN = """
ALTER TABLE otc.published_total DROP COLUMN last_update_date;
DROP INDEX otc.publication_by_digest;
ALTER TABLE otc.publication
    DROP CONSTRAINT accepted_over_what, DROP CONSTRAINT withdrawn_why,
    DROP COLUMN ats_last_update_date, DROP COLUMN non_ats_last_update_date, DROP COLUMN quarantine_reason,
    DROP COLUMN accepted_at, DROP COLUMN accepted_over, DROP COLUMN withdrawn_at, DROP COLUMN withdrawal_reason,
    DROP COLUMN rows_in_use;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
