"""Events have the moments of their transactions, and a database has an identity: the archive keeps both in its journal.

``otc.transaction_time`` and ``otc.write_moment`` give the time of now, or, in a rebuild from the archive, the recorded
one. Events that are stored already get their moments from the rows that they are about; the other moments of the past
have no effect on any row.
"""

from alembic import op

revision = "035"
down_revision = "034"
branch_labels = None
depends_on = None

TIMES = """
CREATE FUNCTION otc.transaction_time() RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' SET TimeZone = 'UTC'
AS $$ BEGIN RETURN coalesce(nullif(current_setting('otc.replayed_start', true), '')::timestamptz, now()); END $$;

CREATE OR REPLACE FUNCTION otc.write_moment() RETURNS timestamptz
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' SET TimeZone = 'UTC'
AS $$
DECLARE
    taken text := current_setting('otc.write_moment', true);
    replayed text := current_setting('otc.replayed_moment', true);
    began interval := clock_timestamp() - '2020-01-01 00:00Z'::timestamptz;
    moment timestamptz;
BEGIN
    IF taken <> '' THEN
        RETURN taken;
    END IF;
    -- Held to the transaction's end: otc.known_until finds running loads by it, and since when they run. The second key
    -- is a second, the first a millisecond in it. They are determined before the lock is taken and the moment after it,
    -- so that a reader that has not seen the lock has looked before the moment.
    PERFORM pg_advisory_xact_lock_shared(
        19850000 + floor(extract(milliseconds FROM began))::int % 1000, floor(extract(epoch FROM began))::int);
    IF replayed <> '' THEN
        moment := replayed;
    ELSE
        -- A clock that was set back must not let a row end before it begins.
        moment := greatest(clock_timestamp(), (SELECT max(computed_at) + '1 us' FROM otc.computed_week));
    END IF;
    PERFORM set_config('otc.write_moment', moment::text, true);
    -- Weeks are rewritten as a whole, and TimescaleDB refuses that for compressed ones by default.
    IF current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction', true) IS NOT NULL THEN
        PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);
    END IF;
    RETURN moment;
END
$$;

ALTER TABLE otc.publication ALTER COLUMN captured_at SET DEFAULT otc.transaction_time();
ALTER TABLE otc.week_quality ALTER COLUMN judged_at SET DEFAULT otc.transaction_time();
ALTER TABLE otc.gap ALTER COLUMN reported_at SET DEFAULT otc.transaction_time();
"""

JOURNAL = """
CREATE TABLE otc.journal (
    only_one   boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    journal_id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO otc.journal DEFAULT VALUES;
"""

EVENTS = """
ALTER TABLE otc.events ADD COLUMN began_at timestamptz, ADD COLUMN write_moment timestamptz;
ALTER TABLE otc.events DISABLE TRIGGER append_only;
UPDATE otc.events SET began_at = created_at;

-- Of several events, only the last one's time is in the row that they are about.
WITH recorded AS (
    SELECT e.id, p.captured_at AS at FROM otc.events e
    JOIN otc.publication p ON p.id = (e.payload ->> 'publication_id')::bigint
    WHERE e.event_type = 'otc.file.ingested'
    UNION ALL
    SELECT max(e.id), max(p.accepted_at) FROM otc.events e
    JOIN otc.publication p ON p.id = (e.payload ->> 'publication_id')::bigint
    WHERE e.event_type = 'otc.capture.accepted' GROUP BY p.id
    UNION ALL
    SELECT max(e.id), max(p.withdrawn_at) FROM otc.events e
    JOIN otc.publication p ON p.id = (e.payload ->> 'publication_id')::bigint
    WHERE e.event_type = 'otc.capture.withdrawn' GROUP BY p.id
    UNION ALL
    SELECT max(e.id), max(q.judged_at) FROM otc.events e
    JOIN otc.week_quality q ON q.week_ending = (e.payload ->> 'week_ending')::date
    WHERE e.event_type = 'otc.week.checked' GROUP BY q.week_ending
    UNION ALL
    SELECT max(e.id), max(g.reported_at) FROM otc.events e
    JOIN otc.gap g ON g.week_ending = (e.payload ->> 'week_ending')::date AND g.tier = e.payload ->> 'tier'
    WHERE e.event_type = 'otc.gap.opened' GROUP BY g.week_ending, g.tier
)
UPDATE otc.events e SET began_at = r.at FROM recorded r WHERE r.id = e.id AND r.at <= e.created_at;

UPDATE otc.events e SET
    payload = jsonb_strip_nulls(e.payload || jsonb_build_object('summary_type', p.summary_type)),
    metadata = e.metadata || '{"schema": 2}'
FROM otc.publication p
WHERE e.event_type = 'otc.file.ingested' AND p.id = (e.payload ->> 'publication_id')::bigint;

-- The newest moment at which the week of the table was written before the event; its own, if it changed a row.
CREATE TEMPORARY TABLE written ON COMMIT DROP AS
    SELECT table_name, week_ending, computed_at AS moment FROM otc.computed_week;
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{venue_volume, symbol_summary, venue_share, symbol_rolling, venue_rolling,
        symbol_concentration, market_concentration}'::text[]
    LOOP
        EXECUTE format('INSERT INTO written SELECT DISTINCT %L, week_ending, known_from FROM otc.%I', name, name);
        EXECUTE format('INSERT INTO written SELECT DISTINCT %L, week_ending, m FROM otc.%I r,'
                       ' LATERAL (VALUES (r.known_from), (r.known_to)) AS moments (m)', name, name || '_revision');
    END LOOP;
END
$$;
UPDATE otc.events e SET write_moment = coalesce((
    SELECT max(w.moment) FROM written w
    WHERE w.table_name = coalesce(e.payload ->> 'table', 'venue_volume')
      AND w.week_ending = (e.payload ->> 'week_ending')::date AND w.moment <= e.created_at), e.created_at)
WHERE e.event_type IN
    ('otc.week.normalized', 'otc.week.revised', 'otc.summary.computed', 'otc.metrics.computed');
ALTER TABLE otc.events ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE otc.events
    ALTER COLUMN began_at SET NOT NULL,
    ALTER COLUMN began_at SET DEFAULT otc.transaction_time(),
    ALTER COLUMN write_moment SET DEFAULT nullif(current_setting('otc.write_moment', true), '')::timestamptz;
"""

DOWN = """
ALTER TABLE otc.events DROP COLUMN began_at, DROP COLUMN write_moment;
ALTER TABLE otc.events DISABLE TRIGGER append_only;
UPDATE otc.events SET payload = payload - 'summary_type', metadata = metadata || '{"schema": 1}'
WHERE event_type = 'otc.file.ingested';
UPDATE otc.events SET payload = payload - 'rows_loaded' - 'rows_expected', metadata = metadata || '{"schema": 1}'
WHERE event_type = 'otc.gap.opened';
ALTER TABLE otc.events ENABLE ALWAYS TRIGGER append_only;
DROP TABLE otc.journal;
ALTER TABLE otc.publication ALTER COLUMN captured_at SET DEFAULT now();
ALTER TABLE otc.week_quality ALTER COLUMN judged_at SET DEFAULT now();
ALTER TABLE otc.gap ALTER COLUMN reported_at SET DEFAULT now();
DROP FUNCTION otc.transaction_time();
"""


def upgrade() -> None:
    op.execute(TIMES)
    op.execute(JOURNAL)
    op.execute(EVENTS)


def downgrade() -> None:
    op.execute(DOWN)
