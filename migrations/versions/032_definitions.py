"""Digests of the definitions that follow the code; and functions whose names and messages are plain English.

From here on ``otc-assets migrate`` compares hypertable layouts, aggregates, as-of functions and comments with the
digests in ``otc.definition``, and replaces those that differ. Hypertables and aggregates that exist already are as the
digests below say, so they are not rebuilt.
"""

from alembic import op

revision = "032"
down_revision = "031"
branch_labels = None
depends_on = None

DEFINITION = """
CREATE TABLE otc.definition (
    name       text PRIMARY KEY,
    digest     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO otc.definition (name, digest)
SELECT name, digest FROM (VALUES
    ('weekly_summary_agg', '21613da89fe139ce3b1175110cb9e74a0b0a95c5fe85d8f0d5aae42a8b0b02b5'),
    ('monthly_summary_agg', 'a13009c9ea04b4a1dcadbddf4135cdc37991044dd6f79edf1ad340571c2744f7')
) AS existing (name, digest) WHERE to_regclass('otc.' || name) IS NOT NULL;
DO $$
BEGIN
    IF to_regclass('timescaledb_information.hypertables') IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO otc.definition (name, digest)
    SELECT 'hypertable ' || name, encode(sha256(convert_to(layout, 'UTF8')), 'hex') FROM (VALUES
        ('raw_record', '7|publication_id|line'),
        ('venue_volume', '28|week_ending, tier|symbol, venue_id'),
        ('venue_volume_revision', '364|week_ending|tier, symbol, venue_id, known_to'),
        ('published_total', '91|week_ending, tier|total_of, symbol, venue_id'),
        ('symbol_summary', '91|week_ending, tier|symbol'),
        ('symbol_summary_revision', '364|week_ending|tier, symbol, known_to'),
        ('venue_share', '364|tier|venue_id, week_ending'),
        ('venue_share_revision', '364|week_ending|tier, venue_id, known_to'),
        ('symbol_rolling', '91|week_ending, tier|symbol'),
        ('symbol_rolling_revision', '364|week_ending|tier, symbol, known_to'),
        ('venue_rolling', '364|tier|venue_id, week_ending'),
        ('venue_rolling_revision', '364|week_ending|tier, venue_id, known_to'),
        ('symbol_concentration', '91|week_ending, tier|symbol, venue_scope'),
        ('symbol_concentration_revision', '364|week_ending|tier, symbol, venue_scope, known_to'),
        ('market_concentration', '364|tier|venue_scope, week_ending'),
        ('market_concentration_revision', '364|week_ending|tier, venue_scope, known_to')
    ) AS existing (name, layout)
    WHERE name IN (SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = 'otc');
END
$$;
"""

FUNCTIONS = """
ALTER FUNCTION otc.drop_what_is_not_kept(date) RENAME TO drop_expired_weeks;
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

ALTER FUNCTION otc.require_settled(anyelement, timestamptz, pg_snapshot) RENAME TO require_final;
CREATE OR REPLACE FUNCTION otc.require_final(kind anyelement, moment timestamptz, seen pg_snapshot)
RETURNS SETOF anyelement
LANGUAGE plpgsql PARALLEL RESTRICTED ROWS 1 SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
DECLARE
    until timestamptz := otc.known_until();
BEGIN
    IF moment >= until THEN
        RAISE EXCEPTION 'an answer as of % could still change', moment
            USING ERRCODE = 'OT001',
                  DETAIL = format('Answers as of moments before %s are final: a load is under way that began then, '
                                  'or that is now.', until),
                  HINT = 'Ask as of a moment before otc.known_until(), or read the table itself for what is known now.';
    END IF;
    -- A load that committed after the caller's snapshot was taken, and before the locks were read: this function is
    -- volatile, so it sees that load, and the caller does not.
    -- Only of the last hour: transaction numbers mean nothing after a dump and restore.
    IF EXISTS (
        SELECT FROM otc.computed_week
        WHERE computed_at > now() - interval '1 hour' AND NOT pg_visible_in_snapshot(xid, seen)
    ) THEN
        RAISE EXCEPTION 'a load ended just now: ask again' USING ERRCODE = 'serialization_failure';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION otc.refuse_to_rewrite_events() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
BEGIN
    RAISE EXCEPTION 'otc.events is append-only: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation',
              HINT = 'Events are immutable. Append a correcting event.';
END
$$;

CREATE OR REPLACE FUNCTION otc.append_event(
    event_type       text,
    aggregate_type   text,
    aggregate_id     text,
    payload          jsonb,
    metadata         jsonb DEFAULT '{"schema": 1}',
    expected_version bigint DEFAULT NULL
) RETURNS otc.events
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
DECLARE
    latest   bigint;
    appended otc.events;
BEGIN
    IF append_event.aggregate_type = 'retention' THEN
        LOCK TABLE otc.events IN SHARE ROW EXCLUSIVE MODE;
    ELSIF append_event.payload ? 'week_ending' THEN
        -- The week's lock: 1984 and the day's ordinal.
        PERFORM pg_advisory_xact_lock(1984, (append_event.payload ->> 'week_ending')::date - DATE '0001-01-01' + 1);
    END IF;
    PERFORM pg_advisory_xact_lock(
        hashtextextended(append_event.aggregate_type || ' ' || append_event.aggregate_id, 0));
    SELECT coalesce(max(e.version), 0) INTO latest FROM otc.events e
    WHERE e.aggregate_type = append_event.aggregate_type AND e.aggregate_id = append_event.aggregate_id;
    IF latest <> append_event.expected_version THEN
        RAISE EXCEPTION '% % is at version %, expected %: another transaction has changed it',
                append_event.aggregate_type, append_event.aggregate_id, latest, append_event.expected_version
            USING ERRCODE = 'OTC01';
    END IF;
    INSERT INTO otc.events (event_type, aggregate_type, aggregate_id, version, payload, metadata)
    VALUES (append_event.event_type, append_event.aggregate_type, append_event.aggregate_id, latest + 1,
            append_event.payload, append_event.metadata)
    RETURNING * INTO appended;
    RETURN appended;
END
$$;
"""

# The as-of functions call require_final by its name; from 032 on, migrate replaces them.
AS_OF = """
DO $$
DECLARE
    definition text;
BEGIN
    FOR definition IN SELECT pg_get_functiondef(oid) FROM pg_proc
        WHERE pronamespace = 'otc'::regnamespace AND proname LIKE '%\\_as\\_of' AND prosrc LIKE '%otc.{before}(%'
    LOOP
        EXECUTE replace(definition, 'otc.{before}(', 'otc.{after}(');
    END LOOP;
END
$$;
"""

DOWN = """
DROP TABLE otc.definition;
ALTER FUNCTION otc.require_final(anyelement, timestamptz, pg_snapshot) RENAME TO require_settled;
ALTER FUNCTION otc.drop_expired_weeks(date) RENAME TO drop_what_is_not_kept;
CREATE OR REPLACE FUNCTION otc.apply_retention(today date DEFAULT current_date, metadata jsonb DEFAULT '{"schema": 1}')
RETURNS TABLE (what text, retained_from date, weeks bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD'
AS $$
BEGIN
    FOR what, retained_from, weeks IN SELECT d.* FROM otc.drop_what_is_not_kept(today) d LOOP
        PERFORM otc.append_event('otc.retention.applied', 'retention', what,
            jsonb_build_object('what', what, 'retained_from', retained_from, 'weeks', weeks), metadata);
        RETURN NEXT;
    END LOOP;
END
$$;
"""


def upgrade() -> None:
    op.execute(DEFINITION)
    op.execute(FUNCTIONS)
    op.execute(AS_OF.format(before="require_settled", after="require_final"))


def downgrade() -> None:
    op.execute(DOWN)
    op.execute(AS_OF.format(before="require_final", after="require_settled"))
