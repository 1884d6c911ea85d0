"""Retention: what is kept for how many weeks.

``otc.apply_retention`` is the one way in which weeks are dropped: a job of TimescaleDB's calls it where the
server has jobs, a scheduled Dagster job where it has none. It drops whole weeks, by the chunk where a chunk
holds nothing else. What is computed is kept for ever unless it is said otherwise.
"""

from alembic import op

revision = "026"
down_revision = "025"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE otc.retention (
    what          text PRIMARY KEY CHECK (what IN ('raw_record', 'venue_volume', 'summaries')),
    tables        text[] NOT NULL,
    keep_weeks    integer CHECK (keep_weeks > 0),
    dropped_until date,
    applied_at    timestamptz
);
COMMENT ON TABLE otc.retention IS 'What is kept for how many weeks before the current one.';
COMMENT ON COLUMN otc.retention.keep_weeks IS 'NULL: for ever.';
COMMENT ON COLUMN otc.retention.dropped_until IS 'The newest week that was ever dropped.';
INSERT INTO otc.retention (what, tables) VALUES
    ('raw_record', '{raw_record}'),
    ('venue_volume', '{venue_volume, venue_volume_revision, published_total}'),
    ('summaries', '{symbol_summary, symbol_summary_revision, venue_share, venue_share_revision, symbol_rolling,
        symbol_rolling_revision, venue_rolling, venue_rolling_revision, symbol_concentration,
        symbol_concentration_revision, market_concentration, market_concentration_revision}');

CREATE FUNCTION otc.retained_from(which text, today date DEFAULT current_date) RETURNS date
LANGUAGE sql STABLE
AS $$
    -- The Friday of the current week, so many weeks earlier.
    SELECT date_trunc('week', today)::date + 4 - 7 * r.keep_weeks FROM otc.retention r WHERE r.what = which
$$;
COMMENT ON FUNCTION otc.retained_from IS
    'The oldest week that is kept; older ones are refused by the loader. NULL: everything is kept.';

CREATE FUNCTION otc.apply_retention(today date DEFAULT current_date)
RETURNS TABLE (what text, retained_from date, weeks bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    kept record;
    name text;
    gone date[];
    found date[];
BEGIN
    FOR kept IN SELECT * FROM otc.retention r WHERE r.keep_weeks IS NOT NULL ORDER BY r.what FOR UPDATE LOOP
        what := kept.what;
        retained_from := otc.retained_from(kept.what, today);
        gone := '{}';
        FOREACH name IN ARRAY kept.tables LOOP
            EXECUTE format('SELECT array_agg(DISTINCT week_ending) FROM otc.%I WHERE week_ending < %L',
                           name, retained_from) INTO found;
            CONTINUE WHEN found IS NULL;
            gone := gone || found;
            -- Whole chunks at once where the table has them; what is left shares a chunk with weeks that stay.
            IF to_regclass('_timescaledb_catalog.hypertable') IS NOT NULL THEN
                EXECUTE format('SELECT count(*) FROM timescaledb_information.hypertables h,'
                    ' drop_chunks(format(''%%I.%%I'', h.hypertable_schema, h.hypertable_name)::regclass, %L::date)'
                    ' WHERE h.hypertable_schema = ''otc'' AND h.hypertable_name = %L', retained_from, name);
            END IF;
            EXECUTE format('DELETE FROM otc.%I WHERE week_ending < %L', name, retained_from);
        END LOOP;
        CONTINUE WHEN gone = '{}';
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
COMMENT ON FUNCTION otc.apply_retention IS
    'Drops what is no longer kept, and returns the kinds of which weeks were dropped. No summary is touched by it.';

CREATE FUNCTION otc.retention_job(job_id integer, config jsonb) RETURNS void
LANGUAGE plpgsql
AS $$ BEGIN PERFORM otc.apply_retention(); END $$;
COMMENT ON FUNCTION otc.retention_job IS 'otc.apply_retention, as a job of TimescaleDB''s is called.';
"""

DOWN = """
DO $$
DECLARE
    timescale text := (
        SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb');
BEGIN
    IF timescale IS NOT NULL THEN
        EXECUTE format('SELECT %I.delete_job(job_id) FROM timescaledb_information.jobs'
            ' WHERE proc_schema = ''otc'' AND proc_name = ''retention_job''', timescale);
    END IF;
END
$$;
DROP FUNCTION otc.retention_job(integer, jsonb);
DROP FUNCTION otc.apply_retention(date);
DROP FUNCTION otc.retained_from(text, date);
DROP TABLE otc.retention;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
