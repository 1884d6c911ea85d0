"""What needs the owner's rights in a run is done by functions that run with them: retention, projections, and the
chunks and aggregates of a week that was written.

They do this one thing with checked arguments, have a search path of their own, and are not executable by everyone.
``otc-assets migrate`` grants them to the role that writes.
"""

from alembic import op

revision = "039"
down_revision = "037"
branch_labels = None
depends_on = None

DEFINERS = ("project_appended_event()", "apply_retention(date, jsonb)", "replay_events()")

RETENTION = """
CREATE OR REPLACE FUNCTION otc.apply_retention(today date DEFAULT current_date, metadata jsonb DEFAULT '{"schema": 1}')
RETURNS TABLE (what text, retained_from date, weeks bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
BEGIN
    -- A day may have begun elsewhere. A later one would delete weeks that are kept.
    IF today IS NULL OR today > (now() AT TIME ZONE 'UTC')::date + 1 THEN
        RAISE EXCEPTION 'retention can''t be applied as of %: that day is not today', today
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR what, retained_from, weeks IN SELECT d.* FROM otc.drop_expired_weeks(today) d LOOP
        PERFORM otc.append_event('otc.retention.applied', 'retention', what,
            jsonb_build_object('what', what, 'retained_from', retained_from, 'weeks', weeks), metadata);
        RETURN NEXT;
    END LOOP;
END
$$;
"""

# Only the community edition has compressed chunks and continuous aggregates. The names of the extension's relations are
# looked up when a function is called: on other servers they do not exist.
COMPRESS = """
CREATE FUNCTION otc.compress_again(tables text[], week date) RETURNS bigint
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
              AND range_start <= $2 AND range_end > $2
            $query$, timescale) INTO compressed USING tables, week;
    END IF;
    RETURN compressed;
END
$$;
"""

# A function can't call refresh_continuous_aggregate. It replaces the rows of the aggregate, as a refresh does. What is
# recorded as changed stays recorded, so that the server's own job does the same once more. The lock lets no refresh
# write meanwhile: both would insert the rows.
REFRESH = """
CREATE FUNCTION otc.refresh_aggregates(week date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
DECLARE
    name text;
    period text;
    first date;
    stored record;
BEGIN
    IF to_regclass('timescaledb_information.continuous_aggregates') IS NULL THEN
        RETURN;
    END IF;
    -- The second is computed from the first.
    FOR name, period, first IN VALUES
        ('weekly_summary_agg', 'week', week), ('monthly_summary_agg', 'month', date_trunc('month', week)::date)
    LOOP
        FOR stored IN EXECUTE 'SELECT format(''%I.%I'', materialization_hypertable_schema,'
            ' materialization_hypertable_name) AS rows, rtrim(view_definition, ''; '') AS query'
            ' FROM timescaledb_information.continuous_aggregates'
            ' WHERE view_schema = ''otc'' AND view_name = $1' USING name
        LOOP
            EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', stored.rows);
            EXECUTE format('DELETE FROM %s WHERE %I = %L::date', stored.rows, period, first);
            EXECUTE format('INSERT INTO %s SELECT * FROM (%s) computed WHERE %I = %L::date',
                           stored.rows, stored.query, period, first);
        END LOOP;
    END LOOP;
END
$$;
"""

DOWN = """
DROP FUNCTION otc.compress_again(text[], date);
DROP FUNCTION otc.refresh_aggregates(date);
CREATE OR REPLACE FUNCTION otc.apply_retention(today date DEFAULT current_date, metadata jsonb DEFAULT '{"schema": 1}')
RETURNS TABLE (what text, retained_from date, weeks bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
BEGIN
    FOR what, retained_from, weeks IN SELECT d.* FROM otc.drop_expired_weeks(today) d LOOP
        PERFORM otc.append_event('otc.retention.applied', 'retention', what,
            jsonb_build_object('what', what, 'retained_from', retained_from, 'weeks', weeks), metadata);
        RETURN NEXT;
    END LOOP;
END
$$;
"""


def upgrade() -> None:
    op.execute(RETENTION)
    op.execute(COMPRESS)
    op.execute(REFRESH)
    for function in DEFINERS:
        op.execute(f"ALTER FUNCTION otc.{function} SECURITY DEFINER")
    for function in (*DEFINERS, "compress_again(text[], date)", "refresh_aggregates(date)"):
        op.execute(f"REVOKE ALL ON FUNCTION otc.{function} FROM PUBLIC")


def downgrade() -> None:
    for function in DEFINERS:
        op.execute(f"ALTER FUNCTION otc.{function} SECURITY INVOKER")
        op.execute(f"GRANT EXECUTE ON FUNCTION otc.{function} TO PUBLIC")
    op.execute(DOWN)
