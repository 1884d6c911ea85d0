"""Everything computed from venue volume can be asked as of a moment, as venue volume itself.

A row is known from the moment of the load that wrote it until that of the load that replaced it. The moment
is taken once a transaction, after the week's lock is held: ``now()`` is when a transaction began, and one
that waited for the lock would write a row that ends before it begins.
"""

from alembic import op

revision = "023"
down_revision = "022"
branch_labels = None
depends_on = None

#: By table, its key.
FIGURES = {
    "symbol_summary": "week_ending, tier, symbol",
    "venue_share": "week_ending, tier, venue_id",
    "symbol_rolling": "week_ending, tier, symbol",
    "venue_rolling": "week_ending, tier, venue_id",
    "symbol_concentration": "week_ending, tier, symbol, venue_scope",
    "market_concentration": "week_ending, tier, venue_scope",
}

MOMENTS = """
ALTER TABLE otc.computed_week ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
COMMENT ON COLUMN otc.computed_week.xid IS 'The transaction of the load: otc.require_settled asks who sees it.';

CREATE FUNCTION otc.write_moment() RETURNS timestamptz
LANGUAGE plpgsql
AS $$
DECLARE
    taken text := current_setting('otc.write_moment', true);
    began interval := clock_timestamp() - '2020-01-01 00:00Z'::timestamptz;
    moment timestamptz;
BEGIN
    IF taken <> '' THEN
        RETURN taken;
    END IF;
    -- Held to the transaction's end: otc.known_until finds the loads that are under way by it, and since when:
    -- the second key is a second, the first a millisecond in it. They are taken before the lock is there and the
    -- moment after it, so that whoever has not seen the lock has looked before the moment.
    PERFORM pg_advisory_xact_lock_shared(
        19850000 + floor(extract(milliseconds FROM began))::int % 1000, floor(extract(epoch FROM began))::int);
    -- A clock that was set back must not let a row end before it begins.
    moment := greatest(clock_timestamp(), (SELECT max(computed_at) + '1 us' FROM otc.computed_week));
    PERFORM set_config('otc.write_moment', moment::text, true);
    -- Weeks are rewritten as a whole, and TimescaleDB refuses that for compressed ones unless it is told to.
    IF current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction', true) IS NOT NULL THEN
        PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);
    END IF;
    RETURN moment;
END
$$;
COMMENT ON FUNCTION otc.write_moment IS
    'The moment from which what this transaction writes is known; the first call takes it.';

CREATE FUNCTION otc.known_until() RETURNS timestamptz
LANGUAGE plpgsql
AS $$
DECLARE
    asked timestamptz := clock_timestamp(); -- before the locks are looked at
BEGIN
    RETURN least(asked, (
        SELECT min('2020-01-01 00:00Z'::timestamptz + objid::bigint * interval '1 second'
                   + (classid::bigint - 19850000) * interval '1 millisecond') FROM pg_locks
        WHERE locktype = 'advisory' AND classid BETWEEN 19850000 AND 19850999 AND objsubid = 2 AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())));
END
$$;
COMMENT ON FUNCTION otc.known_until IS
    'Answers as of moments before this one never change; a load that is under way may still add to later ones.';

CREATE FUNCTION otc.require_settled(kind anyelement, moment timestamptz, seen pg_snapshot) RETURNS SETOF anyelement
LANGUAGE plpgsql PARALLEL RESTRICTED ROWS 1
AS $$
DECLARE
    until timestamptz := otc.known_until();
BEGIN
    IF moment >= until THEN
        RAISE EXCEPTION 'an answer as of % could still change', moment
            USING ERRCODE = 'OT001',
                  DETAIL = format('Moments before %s are settled: a load is under way since, or it is now.', until),
                  HINT = 'Ask as of a moment before otc.known_until(), or read the table itself for what is known now.';
    END IF;
    -- A load that ended after the asker's snapshot was taken, and before we looked at the locks: this function,
    -- being volatile, sees it, and the asker does not.
    -- Of the last hour alone: transaction numbers mean nothing after a dump and restore.
    IF EXISTS (
        SELECT FROM otc.computed_week
        WHERE computed_at > now() - interval '1 hour' AND NOT pg_visible_in_snapshot(xid, seen)
    ) THEN
        RAISE EXCEPTION 'a load ended just now: ask again' USING ERRCODE = 'serialization_failure';
    END IF;
END
$$;
COMMENT ON FUNCTION otc.require_settled IS
    'No rows where an answer as of the moment never changes; an error otherwise (OT001, or 40001: ask again).';
"""

MOMENTS_DOWN = """
DROP FUNCTION otc.require_settled(anyelement, timestamptz, pg_snapshot);
DROP FUNCTION otc.known_until();
DROP FUNCTION otc.write_moment();
ALTER TABLE otc.computed_week DROP COLUMN xid;
"""

KEEP_HISTORY = """
ALTER TABLE otc.{table} ADD COLUMN known_from timestamptz;
UPDATE otc.{table} t SET known_from = coalesce(
    (SELECT computed_at FROM otc.computed_week c WHERE c.table_name = '{table}' AND c.week_ending = t.week_ending),
    now());
ALTER TABLE otc.{table} ALTER COLUMN known_from SET NOT NULL;
CREATE TABLE otc.{table}_revision (
    LIKE otc.{table},
    known_to timestamptz NOT NULL,
    change   text NOT NULL CHECK (change IN ('changed', 'removed')),
    PRIMARY KEY ({key}, known_to)
);
COMMENT ON TABLE otc.{table}_revision IS
    'What a row of {table} was before it changed, true from known_from until known_to.';
"""

# Plain SQL of one statement, so that the planner opens it up and a caller's WHERE reaches the tables.
AS_OF = """
CREATE FUNCTION otc.{table}_as_of(moment timestamptz) RETURNS TABLE ({types})
LANGUAGE sql STABLE
AS $$
    -- A part of its own, and not a condition: those are not looked at where a table has no rows to look at.
    SELECT {columns} FROM otc.require_settled(NULL::otc.{table}, moment, pg_current_snapshot()) r
    UNION ALL
    SELECT {columns} FROM otc.{table} r WHERE r.known_from <= moment
    UNION ALL
    SELECT {columns} FROM otc.{table}_revision r WHERE r.known_from <= moment AND r.known_to > moment
$$;
COMMENT ON FUNCTION otc.{table}_as_of IS
    '{table} as it was known at a moment before otc.known_until(); what retention has dropped is not in it.';
"""

COLUMNS = """
SELECT string_agg('r.' || attname, ', ' ORDER BY attnum),
       string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
FROM pg_attribute
WHERE attrelid = 'otc.{table}'::regclass AND attnum > 0 AND NOT attisdropped
"""


def upgrade() -> None:
    connection = op.get_bind()
    op.execute(MOMENTS)
    for table, key in FIGURES.items():
        op.execute(KEEP_HISTORY.format(table=table, key=key))
    op.execute("ALTER TABLE otc.venue_volume ALTER COLUMN known_from DROP DEFAULT")
    for table in ("venue_volume", *FIGURES):
        columns, types = connection.exec_driver_sql(COLUMNS.format(table=table)).one()
        op.execute(AS_OF.format(table=table, columns=columns, types=types))


def downgrade() -> None:
    for table in ("venue_volume", *FIGURES):
        op.execute(f"DROP FUNCTION otc.{table}_as_of(timestamptz)")
    op.execute("ALTER TABLE otc.venue_volume ALTER COLUMN known_from SET DEFAULT now()")
    for table in FIGURES:
        op.execute(f"DROP TABLE otc.{table}_revision; ALTER TABLE otc.{table} DROP COLUMN known_from")
    op.execute(MOMENTS_DOWN)
