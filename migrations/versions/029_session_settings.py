"""Functions that give the same results whatever the settings of the session that calls them.

Jobs of the server, other clients and psql call them with the defaults of their server, database or role: a search
path that finds other objects first, or dates in another style. Not the ``*_as_of`` functions and ``otc.bucket``:
a SQL function with settings of its own is not inlined, and a caller's conditions no longer reach the tables.
Those use qualified names alone.
"""

from alembic import op

revision = "029"
down_revision = "028"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "append_event(text, text, text, jsonb, jsonb, bigint)",
    "apply_retention(date, jsonb)",
    "drop_what_is_not_kept(date)",
    "known_until()",
    "project_appended_event()",
    "project_event(otc.events)",
    "refuse_to_rewrite_events()",
    "replay_events()",
    "require_settled(anyelement, timestamptz, pg_snapshot)",
    "retained_from(text, date)",
    "retention_job(integer, jsonb)",
    "write_moment()",
)
SETTINGS = {"search_path": "pg_catalog, pg_temp", "DateStyle": "ISO, YMD"}

# As before, but that the schema of TimescaleDB's functions is looked up: it need not be public.
DROP = """
CREATE OR REPLACE FUNCTION otc.drop_what_is_not_kept(today date DEFAULT current_date)
RETURNS TABLE (what text, retained_from date, weeks bigint)
LANGUAGE plpgsql
AS $$
DECLARE
    kept record;
    name text;
    gone date[];
    found date[];
    timescale text := (
        SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb');
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
            IF timescale IS NOT NULL THEN
                EXECUTE format('SELECT count(*) FROM timescaledb_information.hypertables h,'
                    ' %I.drop_chunks(format(''%%I.%%I'', h.hypertable_schema, h.hypertable_name)::regclass, %L::date)'
                    ' WHERE h.hypertable_schema = ''otc'' AND h.hypertable_name = %L', timescale, retained_from, name);
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
"""


def upgrade() -> None:
    op.execute(DROP)
    for function in FUNCTIONS:
        for name, value in SETTINGS.items():
            op.execute(f"ALTER FUNCTION otc.{function} SET {name} = {value}")
    # Its current_date is FINRA's day, as it is for every caller in Python, and not the server's.
    op.execute("ALTER FUNCTION otc.retention_job(integer, jsonb) SET TimeZone = 'America/New_York'")
    # A moment goes through text: abbreviations of time zones, as other date styles write them, are ambiguous.
    op.execute("ALTER FUNCTION otc.write_moment() SET TimeZone = 'UTC'")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION otc.{function} RESET ALL")
