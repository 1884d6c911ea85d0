"""Retention deletes weeks of compressed chunks, however many rows that decompresses.

A chunk that also has weeks that stay is not dropped. Its expired weeks are deleted, and TimescaleDB refuses that above
100,000 decompressed rows, which a quarter of `symbol_summary` has: no week of any table was deleted then.
"""

from alembic import op

revision = "056"
down_revision = "055"
branch_labels = None
depends_on = None

DROP = """
CREATE OR REPLACE FUNCTION otc.drop_expired_weeks(today date DEFAULT current_date)
RETURNS TABLE (what text, retained_from date, weeks bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
DECLARE
    kept record;
    name text;
    gone date[];
    found date[];
    timescale text := (
        SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb');
BEGIN{unlimited}
    FOR kept IN SELECT * FROM otc.retention r WHERE r.keep_weeks IS NOT NULL ORDER BY r.what FOR UPDATE LOOP
        what := kept.what;
        retained_from := otc.retained_from(kept.what, today);
        gone := '{{}}';
        FOREACH name IN ARRAY kept.tables LOOP
            EXECUTE format('SELECT array_agg(DISTINCT week_ending) FROM otc.%I WHERE week_ending < %L',
                           name, retained_from) INTO found;
            CONTINUE WHEN found IS NULL;
            gone := gone || found;
            -- Whole chunks at once where the table has them; what is left shares a chunk with weeks that stay.
            IF timescale IS NOT NULL THEN
                EXECUTE format('SELECT count(*) FROM timescaledb_information.hypertables h,'
                    ' %I.drop_chunks(format(''%%I.%%I'', h.hypertable_schema, h.hypertable_name)::regclass, %L::date)'
                    ' WHERE h.hypertable_schema = ''otc'' AND h.hypertable_name = %L', timescale, retained_from, name);
            END IF;
            EXECUTE format('DELETE FROM otc.%I WHERE week_ending < %L', name, retained_from);
        END LOOP;
        CONTINUE WHEN gone = '{{}}';
        -- What is no longer there was not made: it is made again once it is kept for longer.
        DELETE FROM otc.computed_week c WHERE c.table_name = ANY(kept.tables) AND c.week_ending = ANY(gone);
        UPDATE otc.retention r
        SET dropped_until = greatest(r.dropped_until, (SELECT max(week) FROM unnest(gone) AS week)),
            applied_at = now()
        WHERE r.what = kept.what;
        SELECT count(DISTINCT week) INTO weeks FROM unnest(gone) AS week;
        RETURN NEXT;
    END LOOP;
END
$$;
"""
UNLIMITED = """
    IF current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction', true) IS NOT NULL THEN
        PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);
    END IF;"""


def upgrade() -> None:
    op.execute(DROP.format(unlimited=UNLIMITED))


def downgrade() -> None:
    op.execute(DROP.format(unlimited=""))
