"""As of a moment: an old answer never changes, whatever is loaded while it is asked or afterwards."""

from __future__ import annotations

import datetime as dt
import random
import re
import threading
import time
from decimal import Decimal

import polars as pl
import pytest
import sqlalchemy as sa
from warehouse_rows import T1, WEEK, frame, row

from otc_assets.domain.concentration import market_concentration, symbol_concentration
from otc_assets.domain.summaries import symbol_summary, venue_share
from otc_assets.domain.tables import with_history
from otc_assets.warehouse import history, load, read
from otc_assets.warehouse.read import NotFinal
from otc_assets.warehouse.server import transaction

ON_HOSTILE_DEFAULTS = True

FIRST = frame(row("AAPL", "V1", "10"), row("AAPL", "V2", "20"), row("MSFT", "V1", "5"))
#: AAPL at V1 is changed, MSFT taken back, TSLA added; AAPL at V2 stays.
SECOND = frame(row("AAPL", "V1", "11"), row("AAPL", "V2", "20"), row("TSLA", "V1", "7"))


def write(engine: sa.Engine, volume: pl.DataFrame) -> None:
    """Loads a version of the week, with the figures that are made of it alone."""
    with transaction(engine) as connection:
        load.replace_volume(connection, WEEK, T1, volume)
        load.mark_computed(connection, "venue_volume", WEEK, "v", volume.height)
        for table, rows in (
            ("symbol_summary", symbol_summary(volume)),
            ("venue_share", venue_share(volume)),
            ("symbol_concentration", symbol_concentration(volume)),
            ("market_concentration", market_concentration(volume)),
        ):
            load.replace_week(connection, table, WEEK, rows, "v")


def now(engine: sa.Engine) -> dt.datetime:
    """A moment after everything that was written so far, and before everything that is yet to be."""
    with transaction(engine) as connection:
        moment = history.known_until(connection)
    time.sleep(0.01)
    return moment


def known(engine: sa.Engine, moment: dt.datetime, table: str = "venue_volume") -> list[tuple[object, ...]]:
    with transaction(engine) as connection:
        rows = read.week_rows(connection, table, [WEEK], as_of=moment)
    return sorted(rows.rows(), key=str)


def test_each_moment_has_its_own_truth(engine: sa.Engine) -> None:
    """By hand: before anything was known, between two versions, and after both."""
    before = now(engine)
    write(engine, FIRST)
    between = now(engine)
    write(engine, SECOND)
    after = now(engine)
    shares = ["symbol", "venue_id", "share_volume"]

    def of(moment: dt.datetime) -> list[tuple[object, ...]]:
        with transaction(engine) as connection:
            return sorted(read.week_rows(connection, "venue_volume", [WEEK], columns=shares, as_of=moment).rows())

    assert of(before) == []
    assert of(between) == [("AAPL", "V1", Decimal(10)), ("AAPL", "V2", Decimal(20)), ("MSFT", "V1", Decimal(5))]
    assert of(after) == [("AAPL", "V1", Decimal(11)), ("AAPL", "V2", Decimal(20)), ("TSLA", "V1", Decimal(7))]


@pytest.mark.parametrize("table", ["symbol_summary", "venue_share", "symbol_concentration", "market_concentration"])
def test_figures_are_known_as_they_were_when_their_volume_was(engine: sa.Engine, table: str) -> None:
    """The witness: the figures recomputed from the volume of that moment."""
    compute = {
        "symbol_summary": symbol_summary,
        "venue_share": venue_share,
        "symbol_concentration": symbol_concentration,
        "market_concentration": market_concentration,
    }[table]
    write(engine, FIRST)
    between = now(engine)
    write(engine, SECOND)
    after = now(engine)
    for moment, volume in ((between, FIRST), (after, SECOND)):
        assert known(engine, moment, table) == sorted(compute(volume).rows(), key=str)


def test_the_aggregates_are_known_as_they_were_too(engine: sa.Engine) -> None:
    write(engine, FIRST)
    between = now(engine)
    write(engine, SECOND)
    with transaction(engine) as connection:
        weekly, monthly = (
            connection.execute(
                sa.text(f"SELECT symbol, total_volume FROM otc.{name}_as_of(:moment) ORDER BY 1"), {"moment": between}
            ).all()
            for name in ("weekly_summary_agg", "monthly_summary_agg")
        )
        today = connection.execute(sa.text("SELECT symbol, total_volume FROM otc.weekly_summary_agg ORDER BY 1")).all()
    assert weekly == monthly == [("AAPL", 30), ("MSFT", 5)]
    assert today == [("AAPL", 31), ("TSLA", 7)]


def test_a_row_that_did_not_change_keeps_the_moment_from_which_it_is_known(engine: sa.Engine) -> None:
    write(engine, FIRST)
    between = now(engine)
    write(engine, SECOND)
    with transaction(engine) as connection:
        since = dict(
            connection.execute(sa.text("SELECT symbol || ' ' || venue_id, known_from FROM otc.venue_volume")).all()
        )
    assert {key for key, moment in since.items() if moment < between} == {"AAPL V2"}


def test_a_moment_that_a_running_load_could_still_change_is_refused_until_it_has_ended(engine: sa.Engine) -> None:
    """The load takes its moment before it commits: an answer given in between would lack its rows indefinitely."""
    write(engine, FIRST)
    final = now(engine)
    with transaction(engine) as loading:
        load.replace_volume(loading, WEEK, T1, SECOND)
        moment = dt.datetime.now(dt.UTC)
        time.sleep(0.01)
        with pytest.raises(NotFinal, match="could still change.* a load is under way"):
            known(engine, moment)
        assert [r[2] for r in known(engine, final)] == ["AAPL", "AAPL", "MSFT"]
    assert [r[2] for r in known(engine, moment)] == ["AAPL", "AAPL", "TSLA"]


def test_a_moment_that_is_yet_to_come_is_refused(engine: sa.Engine) -> None:
    """Although there is nothing that could be read yet."""
    with pytest.raises(NotFinal, match="could still change"):
        known(engine, dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1))


def test_a_load_that_ends_between_a_readers_snapshot_and_its_question_is_noticed(engine: sa.Engine) -> None:
    """The reader does not see its rows any more, and its lock is gone already."""
    write(engine, FIRST)
    with engine.connect() as reader, reader.begin():
        seen = reader.execute(sa.text("SELECT pg_current_snapshot()::text")).scalar()
        write(engine, SECOND)
        moment = now(engine)
        with pytest.raises(sa.exc.DBAPIError, match="a load ended just now"):
            reader.execute(
                sa.text("SELECT otc.require_final(1, :moment, CAST(:seen AS pg_snapshot))"),
                {"moment": moment, "seen": seen},
            )
    assert known(engine, moment) == sorted(SECOND.rows(), key=str)


@pytest.mark.slow
def test_answers_that_were_given_while_loads_ran_are_the_same_ever_after(engine: sa.Engine) -> None:
    """Two loaders revise the week at random while a reader asks for this very moment, again and again."""
    write(engine, FIRST)
    ended = threading.Event()
    errors: list[Exception] = []
    answers: list[tuple[dt.datetime, list[tuple[object, ...]]]] = []
    refused = 0

    def revise(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(25):
                symbols = dice.sample(["AAPL", "MSFT", "TSLA", "NVDA"], dice.randint(1, 4))
                volume = frame(*(row(s, "V1", str(dice.randint(1, 3))) for s in symbols))
                write(engine, volume)
        except Exception as error:  # reported by the test: the thread can't fail it
            errors.append(error)

    def ask() -> None:
        nonlocal refused
        while not ended.is_set():
            moment = dt.datetime.now(dt.UTC)
            try:
                answers.append((moment, known(engine, moment)))
            except NotFinal:
                refused += 1

    loaders = [threading.Thread(target=revise, args=(seed,)) for seed in (1, 2)]
    reader = threading.Thread(target=ask)
    for thread in (*loaders, reader):
        thread.start()
    for thread in loaders:
        thread.join()
    ended.set()
    reader.join()
    assert not errors
    assert refused > 10, "no load was ever under way when the reader asked"
    # Moments a little before the running loads are final: most requests of a patient reader are answered.
    answers.append((now(engine), known(engine, now(engine))))
    assert all(known(engine, moment) == answer for moment, answer in answers)


def test_a_clock_that_was_set_back_does_not_let_a_row_end_before_it_began(engine: sa.Engine) -> None:
    write(engine, FIRST)
    with transaction(engine) as connection:
        ahead = connection.execute(sa.text("UPDATE otc.computed_week SET computed_at = now() + '1 hour'"))
        assert ahead.rowcount
        connection.execute(sa.text("UPDATE otc.venue_volume SET known_from = now() + '1 hour'"))
    write(engine, SECOND)
    with transaction(engine) as connection:
        spans = connection.execute(sa.text("SELECT known_from < known_to FROM otc.venue_volume_revision")).scalars()
        assert set(spans) == {True}


def test_questions_that_cannot_be_answered_say_why(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        with pytest.raises(ValueError, match="no time zone"):
            read.week_rows(connection, "venue_volume", [WEEK], as_of=dt.datetime(2026, 9, 1))  # noqa: DTZ001
        with pytest.raises(ValueError, match=r"no history is kept of otc\.gap; it is of venue_volume"):
            read.week_rows(connection, "gap", [WEEK], as_of=dt.datetime.now(dt.UTC))


@pytest.mark.parametrize("table", with_history())
def test_a_callers_condition_reaches_the_tables_behind_the_function(engine: sa.Engine, table: str) -> None:
    """A function that is not opened up by the planner would read five years for one week."""
    with transaction(engine) as connection:
        connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(
            connection.execute(
                sa.text(f"EXPLAIN SELECT * FROM otc.{table}_as_of('2026-01-01') WHERE week_ending = '2025-12-26'")
            ).scalars()
        )
    assert "Function Scan on " + table not in plan
    assert len(re.findall(r"Index Cond: \(+week_ending = '2025-12-26'::date\)", plan)) == 2
