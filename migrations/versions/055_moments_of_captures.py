"""A clock that was set back lets no row of a data set end before it begins, as it already did for figures.

A capture of a data set has its moment in its event alone, not in ``otc.computed_week``.
"""

from alembic import op

revision = "055"
down_revision = "054"
branch_labels = None
depends_on = None

MOMENT = """
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
        moment := greatest(clock_timestamp(), {last});
    END IF;
    PERFORM set_config('otc.write_moment', moment::text, true);
    -- Weeks are rewritten as a whole, and TimescaleDB refuses that for compressed ones by default.
    IF current_setting('timescaledb.max_tuples_decompressed_per_dml_transaction', true) IS NOT NULL THEN
        PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true);
    END IF;
    RETURN moment;
END
$$;
"""
LOADED = "(SELECT max(computed_at) + '1 us' FROM otc.computed_week)"
RECORDED = "(SELECT max(write_moment) + '1 us' FROM otc.events)"


def upgrade() -> None:
    # The newest moment is one entry of the index, however many events there are.
    op.execute("CREATE INDEX events_by_moment ON otc.events (write_moment) WHERE write_moment IS NOT NULL")
    op.execute(MOMENT.format(last=f"{LOADED},\n            {RECORDED}"))


def downgrade() -> None:
    op.execute(MOMENT.format(last=LOADED))
    op.execute("DROP INDEX otc.events_by_moment")
