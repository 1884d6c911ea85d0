"""Continuous aggregates name time_bucket in their queries, and chunks are compressed after their last week.

The aggregates are the same, so they are not built again: ``time_bucket`` was inserted into a text that views shared,
and only the digest of the text differs.
"""

import sqlalchemy as sa
from alembic import op

revision = "054"
down_revision = "053"
branch_labels = None
depends_on = None

#: By name, the digest before and after.
DIGESTS = {
    "weekly_summary_agg": (
        "21613da89fe139ce3b1175110cb9e74a0b0a95c5fe85d8f0d5aae42a8b0b02b5",
        "24d96c4bc44c09c76056c95e769c8d2d2a2b6b7ecf9ee644f8b7e6def4857150",
    ),
    "monthly_summary_agg": (
        "a13009c9ea04b4a1dcadbddf4135cdc37991044dd6f79edf1ad340571c2744f7",
        "bdc8930459b681e25197a32674600bd25b78b6387cdb5cf96ff3f51b3df19e12",
    ),
}

REPLACE = sa.text("UPDATE otc.definition SET digest = :digest WHERE name = :name AND digest = :stored")

# Of figures of symbols, compressing a chunk again takes seconds, however few of its weeks were written. While all its
# weeks are computed again, it would be decompressed and compressed once for each. What is not compressed here, the
# server's job compresses within a day.
COMPRESS = """
CREATE OR REPLACE FUNCTION otc.compress_again(tables text[], week date) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
DECLARE
    timescale text := (
        SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb');
    compressed bigint := 0;
BEGIN
    IF timescale IS NOT NULL THEN
        EXECUTE format($query$
            SELECT count(%I.compress_chunk(format('%%I.%%I', chunk_schema, chunk_name)::regclass, true))
            FROM timescaledb_information.chunks
            WHERE hypertable_schema = 'otc' AND hypertable_name = ANY($1) AND is_compressed
              AND range_start <= $2 AND range_end > $2 {last}
            $query$, timescale) INTO compressed USING tables, week;
    END IF;
    RETURN compressed;
END
$$;
"""


def upgrade() -> None:
    op.execute(COMPRESS.format(last="AND range_end <= $2 + 7"))
    for name, (before, after) in DIGESTS.items():
        op.execute(REPLACE.bindparams(name=name, stored=before, digest=after))


def downgrade() -> None:
    op.execute(COMPRESS.format(last=""))
    for name, (before, after) in DIGESTS.items():
        op.execute(REPLACE.bindparams(name=name, stored=after, digest=before))
