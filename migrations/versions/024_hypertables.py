"""An index of venue volume by symbol; and the way back from hypertables to ordinary tables.

Hypertables are created after the migrations, by every ``otc-assets migrate`` on a server that has TimescaleDB.
"""

from alembic import op

revision = "024"
down_revision = "023"
branch_labels = None
depends_on = None

# A symbol's history is read by this index if weeks are not compressed. PostgreSQL 18 does not need it, and every
# 'otc-assets migrate' drops it there and creates it elsewhere (docs/benchmarks.md).
UP = "CREATE INDEX venue_volume_by_symbol ON otc.venue_volume (symbol, week_ending)"

# LIKE copies everything but keys, indexes and the table's comment.
DOWN = """
DO $$
DECLARE
    name text;
    statements text[];
    statement text;
BEGIN
    IF to_regclass('timescaledb_information.hypertables') IS NULL THEN
        RETURN;
    END IF;
    FOR name IN EXECUTE
        $query$SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = 'otc'$query$
    LOOP
        SELECT array_agg(format('ALTER TABLE otc.%I ADD CONSTRAINT %I %s', name, conname, pg_get_constraintdef(oid))
                         ORDER BY contype DESC) INTO statements
        FROM pg_constraint WHERE contype IN ('p', 'f') AND conrelid = format('otc.%I', name)::regclass;
        statements := statements || ARRAY(
            SELECT indexdef FROM pg_indexes
            WHERE schemaname = 'otc' AND tablename = name
              AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname AND contype = 'p'));
        statements := statements || ARRAY(
            SELECT format('COMMENT ON TABLE otc.%I IS %L', name, description)
            FROM obj_description(format('otc.%I', name)::regclass, 'pg_class') AS description
            WHERE description IS NOT NULL);
        EXECUTE format('CREATE TABLE otc.plain'
            ' (LIKE otc.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)', name);
        EXECUTE format('INSERT INTO otc.plain SELECT * FROM otc.%I', name);
        EXECUTE format('DROP TABLE otc.%I', name);
        EXECUTE format('ALTER TABLE otc.plain RENAME TO %I', name);
        FOREACH statement IN ARRAY statements LOOP
            EXECUTE statement;
        END LOOP;
    END LOOP;
END
$$;
DROP INDEX IF EXISTS otc.venue_volume_by_symbol;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
