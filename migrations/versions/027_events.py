"""Events: what happened, append-only, and the three projections that are derived from them alone.

``otc.project_event`` is the one reducer: a trigger calls it for every event that is appended, in the same
transaction, and a replay for all of them in the order of their ids. Both give the same rows, because two events
that touch the same row of a projection never run beside each other: those of a week hold its lock, those of a
file or a check that of their aggregate, and retention, which touches all weeks, locks everybody out. So the
order of ids is the order in which they were projected.
"""

from alembic import op

revision = "027"
down_revision = "026"
branch_labels = None
depends_on = None

EVENTS = """
CREATE TABLE otc.events (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id       uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    event_type     text NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id   text NOT NULL,
    version        bigint NOT NULL CHECK (version >= 1),
    payload        jsonb NOT NULL CHECK (jsonb_typeof(payload) = 'object'),
    metadata       jsonb NOT NULL CHECK (metadata ? 'schema'),
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    xid            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT events_one_version UNIQUE (aggregate_type, aggregate_id, version)
);
CREATE INDEX events_in_order ON otc.events (xid, id);
CREATE INDEX events_by_type ON otc.events (event_type, id);
CREATE INDEX events_by_week ON otc.events ((payload ->> 'week_ending'), id);
COMMENT ON TABLE otc.events IS
    'What happened, append-only. Append with otc.append_event; read in order with (xid, id), see docs/events.md.';
COMMENT ON COLUMN otc.events.aggregate_id IS
    'Of a week its Friday; of a file its digest, or its origin where there is none; of a gap week and tier; of a '
    'check asset.check and week; of retention what was dropped.';
COMMENT ON COLUMN otc.events.version IS '1, 2, ... of each aggregate.';
COMMENT ON COLUMN otc.events.metadata IS 'schema (of the payload), run_id, trace_id, digest, as far as they are known.';
COMMENT ON COLUMN otc.events.xid IS
    'The transaction that wrote it: whoever reads only events of transactions older than all that still run, in '
    'the order of (xid, id), never skips one.';

CREATE FUNCTION otc.refuse_to_rewrite_events() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'otc.events is append-only: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation',
              HINT = 'What happened stays as it was told. Append another event that says what is right.';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON otc.events
    FOR EACH STATEMENT EXECUTE FUNCTION otc.refuse_to_rewrite_events();
ALTER TABLE otc.events ENABLE ALWAYS TRIGGER append_only;
"""

# 1984 and the day's ordinal are the key of warehouse.server.lock_week.
APPEND = """
CREATE FUNCTION otc.append_event(
    event_type       text,
    aggregate_type   text,
    aggregate_id     text,
    payload          jsonb,
    metadata         jsonb DEFAULT '{"schema": 1}',
    expected_version bigint DEFAULT NULL
) RETURNS otc.events
LANGUAGE plpgsql
AS $$
DECLARE
    latest   bigint;
    appended otc.events;
BEGIN
    IF append_event.aggregate_type = 'retention' THEN
        LOCK TABLE otc.events IN SHARE ROW EXCLUSIVE MODE;
    ELSIF append_event.payload ? 'week_ending' THEN
        PERFORM pg_advisory_xact_lock(1984, (append_event.payload ->> 'week_ending')::date - DATE '0001-01-01' + 1);
    END IF;
    PERFORM pg_advisory_xact_lock(
        hashtextextended(append_event.aggregate_type || ' ' || append_event.aggregate_id, 0));
    SELECT coalesce(max(e.version), 0) INTO latest FROM otc.events e
    WHERE e.aggregate_type = append_event.aggregate_type AND e.aggregate_id = append_event.aggregate_id;
    IF latest <> append_event.expected_version THEN
        RAISE EXCEPTION '% % stands at version %, and not at %: another transaction has changed it',
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
COMMENT ON FUNCTION otc.append_event IS
    'Appends an event as its aggregate''s next version and projects it. With expected_version, 0 where there was '
    'none yet, it fails with OTC01 if the aggregate has moved on.';
"""

PROJECTIONS = """
CREATE TABLE otc.week_state (
    week_ending       date NOT NULL,
    tier              text NOT NULL,
    rows              bigint,
    shares            numeric,
    grade             text,
    score             integer,
    revisions         integer NOT NULL DEFAULT 0,
    captured_at       timestamptz,
    normalized_at     timestamptz,
    revised_at        timestamptz,
    symbol_summary_at timestamptz,
    venue_share_at    timestamptz,
    checked_at        timestamptz,
    retired_at        timestamptz,
    updated_at        timestamptz NOT NULL,
    state             text GENERATED ALWAYS AS (
        CASE
            WHEN retired_at IS NOT NULL THEN 'retired'
            WHEN normalized_at IS NULL AND captured_at IS NULL THEN 'pending'
            WHEN normalized_at IS NULL THEN 'captured'
            WHEN symbol_summary_at IS NOT NULL AND venue_share_at IS NOT NULL AND checked_at IS NOT NULL THEN 'checked'
            WHEN revised_at IS NOT NULL THEN 'revised'
            WHEN symbol_summary_at IS NOT NULL AND venue_share_at IS NOT NULL THEN 'summarized'
            ELSE 'normalized'
        END) STORED,
    PRIMARY KEY (week_ending, tier)
);
COMMENT ON TABLE otc.week_state IS 'How far each (week, tier) is: a projection of otc.events.';
COMMENT ON COLUMN otc.week_state.state IS
    'pending: the calendar has it, FINRA does not yet. captured: its bytes are there. normalized: venue_volume has '
    'it. summarized: both summaries were made of these rows. checked: and they were graded. revised: the rows have '
    'changed, and are not summarized and graded anew yet. retired: retention has dropped it from venue_volume.';
COMMENT ON COLUMN otc.week_state.symbol_summary_at IS 'When it was made of the rows of now; so venue_share_at.';
COMMENT ON COLUMN otc.week_state.checked_at IS 'When the rows of now were graded.';
COMMENT ON COLUMN otc.week_state.revised_at IS 'When rows were last found to differ from those of an earlier load.';

CREATE TABLE otc.file_ledger (
    file          text PRIMARY KEY,
    state         text NOT NULL CHECK (state IN ('ingested', 'rejected')),
    origin        text NOT NULL,
    digest        text,
    tiers         text[] NOT NULL,
    first_week    date,
    last_week     date,
    publications  integer NOT NULL DEFAULT 0,
    rows_received bigint NOT NULL DEFAULT 0,
    rows_accepted bigint NOT NULL DEFAULT 0,
    rows_rejected bigint NOT NULL DEFAULT 0,
    rejections    integer NOT NULL DEFAULT 0,
    reason        text,
    first_at      timestamptz NOT NULL,
    last_at       timestamptz NOT NULL
);
COMMENT ON TABLE otc.file_ledger IS 'What became of each file, or reply of FINRA''s: a projection of otc.events.';
COMMENT ON COLUMN otc.file_ledger.file IS 'Its digest; its origin where there were no bytes.';
COMMENT ON COLUMN otc.file_ledger.publications IS 'How many were recorded from it; the rows are those of all.';
COMMENT ON COLUMN otc.file_ledger.rejections IS 'How often it was refused as a whole; reason says why the last time.';

CREATE TABLE otc.gap_ledger (
    week_ending date NOT NULL,
    tier        text NOT NULL,
    version     bigint NOT NULL,
    status      text NOT NULL,
    due         date NOT NULL,
    fetchable   boolean NOT NULL,
    detail      text NOT NULL,
    opened_at   timestamptz NOT NULL,
    closed_at   timestamptz,
    PRIMARY KEY (week_ending, tier, version)
);
CREATE UNIQUE INDEX gap_ledger_open ON otc.gap_ledger (week_ending, tier) WHERE closed_at IS NULL;
COMMENT ON TABLE otc.gap_ledger IS
    'Every gap that was reported, open where closed_at is null: a projection of otc.events.';
COMMENT ON COLUMN otc.gap_ledger.version IS 'That of the event which opened it.';
COMMENT ON COLUMN otc.gap_ledger.fetchable IS 'Whether FINRA offered the week when the gap was opened; so detail.';

CREATE FUNCTION otc.project_event(event otc.events) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    told    jsonb := event.payload;
    week    date := event.payload ->> 'week_ending';
    of_tier text := event.payload ->> 'tier';
    moment  timestamptz := event.created_at;
BEGIN
    CASE event.event_type
    WHEN 'otc.file.ingested' THEN
        INSERT INTO otc.week_state (week_ending, tier, captured_at, updated_at)
        VALUES (week, of_tier, moment, moment)
        ON CONFLICT (week_ending, tier) DO UPDATE SET captured_at = moment, updated_at = moment;
        INSERT INTO otc.file_ledger AS l (file, state, origin, digest, tiers, first_week, last_week, publications,
            rows_received, rows_accepted, rows_rejected, first_at, last_at)
        VALUES (event.aggregate_id, 'ingested', told ->> 'origin', told ->> 'digest', ARRAY[of_tier], week, week, 1,
            (told ->> 'rows_received')::bigint, (told ->> 'rows_accepted')::bigint,
            (told ->> 'rows_rejected')::bigint, moment, moment)
        ON CONFLICT (file) DO UPDATE SET
            state = 'ingested', origin = excluded.origin, digest = excluded.digest, reason = NULL,
            tiers = ARRAY(SELECT DISTINCT t FROM unnest(l.tiers || excluded.tiers) t ORDER BY t),
            first_week = least(l.first_week, week), last_week = greatest(l.last_week, week),
            publications = l.publications + 1,
            rows_received = l.rows_received + excluded.rows_received,
            rows_accepted = l.rows_accepted + excluded.rows_accepted,
            rows_rejected = l.rows_rejected + excluded.rows_rejected,
            last_at = moment;
    WHEN 'otc.file.rejected' THEN
        INSERT INTO otc.file_ledger AS l (file, state, origin, digest, tiers, first_week, last_week, rejections,
            reason, first_at, last_at)
        VALUES (event.aggregate_id, 'rejected', told ->> 'origin', told ->> 'digest',
            array_remove(ARRAY[of_tier], NULL), week, week, 1, told ->> 'reason', moment, moment)
        ON CONFLICT (file) DO UPDATE SET
            state = 'rejected', origin = excluded.origin, rejections = l.rejections + 1, reason = excluded.reason,
            tiers = ARRAY(SELECT DISTINCT t FROM unnest(l.tiers || excluded.tiers) t ORDER BY t),
            first_week = least(l.first_week, week), last_week = greatest(l.last_week, week), last_at = moment;
    WHEN 'otc.week.normalized' THEN
        INSERT INTO otc.week_state (week_ending, tier, rows, shares, normalized_at, updated_at)
        VALUES (week, of_tier, (told ->> 'rows')::bigint, (told ->> 'shares')::numeric, moment, moment)
        ON CONFLICT (week_ending, tier) DO UPDATE SET
            rows = excluded.rows, shares = excluded.shares, normalized_at = moment, updated_at = moment;
        -- Kept for longer, and loaded again: of what stands there now nothing was made and graded yet.
        UPDATE otc.week_state SET
            retired_at = NULL, symbol_summary_at = NULL, venue_share_at = NULL, checked_at = NULL,
            grade = NULL, score = NULL
        WHERE week_ending = week AND tier = of_tier AND retired_at IS NOT NULL;
    WHEN 'otc.week.revised' THEN
        -- What was made of the rows, and the grade that they had, are of rows that are no more.
        INSERT INTO otc.week_state (week_ending, tier, shares, revisions, normalized_at, revised_at, updated_at)
        VALUES (week, of_tier, (told ->> 'shares_after')::numeric, 1, moment, moment, moment)
        ON CONFLICT (week_ending, tier) DO UPDATE SET
            shares = excluded.shares, revisions = otc.week_state.revisions + 1, revised_at = moment,
            symbol_summary_at = NULL, venue_share_at = NULL, checked_at = NULL, grade = NULL, score = NULL,
            updated_at = moment;
    WHEN 'otc.summary.computed' THEN
        -- Of all tiers that stand in venue_volume by now.
        UPDATE otc.week_state SET
            symbol_summary_at = CASE told ->> 'table' WHEN 'symbol_summary' THEN moment ELSE symbol_summary_at END,
            venue_share_at = CASE told ->> 'table' WHEN 'venue_share' THEN moment ELSE venue_share_at END,
            updated_at = moment
        WHERE week_ending = week AND normalized_at IS NOT NULL;
    WHEN 'otc.week.checked' THEN
        UPDATE otc.week_state SET
            grade = told #>> ARRAY['grades', tier, 'grade'],
            score = (told #>> ARRAY['grades', tier, 'score'])::integer,
            checked_at = moment, updated_at = moment
        WHERE week_ending = week AND normalized_at IS NOT NULL AND (told -> 'grades') ? tier;
    WHEN 'otc.gap.opened' THEN
        INSERT INTO otc.gap_ledger (week_ending, tier, version, status, due, fetchable, detail, opened_at)
        VALUES (week, of_tier, event.version, told ->> 'status', (told ->> 'due')::date,
            (told ->> 'fetchable')::boolean, told ->> 'detail', moment);
        IF told ->> 'status' = 'pending' THEN
            INSERT INTO otc.week_state (week_ending, tier, updated_at) VALUES (week, of_tier, moment)
            ON CONFLICT (week_ending, tier) DO NOTHING;
        END IF;
    WHEN 'otc.gap.closed' THEN
        UPDATE otc.gap_ledger SET closed_at = moment
        WHERE week_ending = week AND tier = of_tier AND closed_at IS NULL;
    WHEN 'otc.retention.applied' THEN
        IF told ->> 'what' = 'venue_volume' THEN
            UPDATE otc.week_state SET retired_at = moment, updated_at = moment
            WHERE week_ending < (told ->> 'retained_from')::date AND retired_at IS NULL;
            -- Nobody waits for such a week any more, and no report looks at it again.
            UPDATE otc.gap_ledger SET closed_at = moment
            WHERE week_ending < (told ->> 'retained_from')::date AND closed_at IS NULL;
        END IF;
    ELSE
        NULL;  -- tells nothing of weeks, files and gaps
    END CASE;
END
$$;
COMMENT ON FUNCTION otc.project_event IS 'What an event changes in week_state, file_ledger and gap_ledger.';

CREATE FUNCTION otc.project_appended_event() RETURNS trigger
LANGUAGE plpgsql
AS $$ BEGIN PERFORM otc.project_event(NEW); RETURN NULL; END $$;
CREATE TRIGGER project AFTER INSERT ON otc.events
    FOR EACH ROW EXECUTE FUNCTION otc.project_appended_event();

CREATE FUNCTION otc.replay_events() RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    event otc.events;
    done  bigint := 0;
BEGIN
    -- Whoever appends waits until the replay has ended; readers see the rows of before until then.
    LOCK TABLE otc.events IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM otc.week_state;
    DELETE FROM otc.file_ledger;
    DELETE FROM otc.gap_ledger;
    FOR event IN SELECT * FROM otc.events ORDER BY id LOOP
        PERFORM otc.project_event(event);
        done := done + 1;
    END LOOP;
    RETURN done;
END
$$;
COMMENT ON FUNCTION otc.replay_events IS 'Makes week_state, file_ledger and gap_ledger anew, of the events alone.';
"""

# Whoever applies retention, a job of the server's or of Dagster's, tells of it in the same transaction.
RETENTION = """
ALTER FUNCTION otc.apply_retention(date) RENAME TO drop_what_is_not_kept;
CREATE FUNCTION otc.apply_retention(today date DEFAULT current_date, metadata jsonb DEFAULT '{"schema": 1}')
RETURNS TABLE (what text, retained_from date, weeks bigint)
LANGUAGE plpgsql
AS $$
BEGIN
    FOR what, retained_from, weeks IN SELECT d.* FROM otc.drop_what_is_not_kept(today) d LOOP
        PERFORM otc.append_event('otc.retention.applied', 'retention', what,
            jsonb_build_object('what', what, 'retained_from', retained_from, 'weeks', weeks), metadata);
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION otc.apply_retention IS
    'Drops what is no longer kept, tells of it, and returns the kinds of which weeks were dropped.';
"""

DOWN = """
DROP FUNCTION otc.apply_retention(date, jsonb);
ALTER FUNCTION otc.drop_what_is_not_kept(date) RENAME TO apply_retention;
DROP FUNCTION otc.replay_events();
DROP FUNCTION otc.append_event(text, text, text, jsonb, jsonb, bigint);
DROP FUNCTION otc.project_event(otc.events);
DROP TABLE otc.events;
DROP FUNCTION otc.project_appended_event();
DROP FUNCTION otc.refuse_to_rewrite_events();
DROP TABLE otc.week_state, otc.file_ledger, otc.gap_ledger;
"""


def upgrade() -> None:
    op.execute(EVENTS)
    op.execute(APPEND)
    op.execute(PROJECTIONS)
    op.execute(RETENTION)


def downgrade() -> None:
    op.execute(DOWN)
