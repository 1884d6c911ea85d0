"""Raw rows are read from the archive: their table goes.

The archive has the bytes of every capture. ``otc-assets migrate`` checks that before it comes here.
"""

from alembic import op

revision = "053"
down_revision = "052"
branch_labels = None
depends_on = None

# TimescaleDB drops the compression job of a hypertable with it.
UP = """
DROP TABLE otc.raw_record;
DELETE FROM otc.definition WHERE name = 'hypertable raw_record';
DELETE FROM otc.retention WHERE what = 'raw_record';
ALTER TABLE otc.retention DROP CONSTRAINT retention_what_check;
ALTER TABLE otc.retention ADD CONSTRAINT retention_what_check CHECK (what IN ('venue_volume', 'summaries'));
"""

# The version of that schema fills the table from the archive, for as many weeks as were kept by default.
DOWN = """
ALTER TABLE otc.retention DROP CONSTRAINT retention_what_check;
ALTER TABLE otc.retention ADD CONSTRAINT retention_what_check
    CHECK (what IN ('raw_record', 'venue_volume', 'summaries'));
INSERT INTO otc.retention (what, tables, keep_weeks) VALUES ('raw_record', '{raw_record}', 26);
CREATE TABLE otc.raw_record (
    week_ending    date NOT NULL,
    publication_id bigint NOT NULL REFERENCES otc.publication (id),
    line           bigint NOT NULL,
    record         text NOT NULL,
    PRIMARY KEY (week_ending, publication_id, line)
);
COMMENT ON TABLE otc.raw_record IS 'Every row as FINRA sent it, verbatim, by line of the publication.';
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
