"""Loading a week: whole or not at all, with what a revision replaced kept."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal

import polars as pl
import psycopg
import pytest
import sqlalchemy as sa
from warehouse_rows import T1, WEEK, frame, publication, row

from otc_assets.domain.schema import REJECTED, SYMBOL_SUMMARY
from otc_assets.warehouse import load, read
from otc_assets.warehouse.server import copy_out, transaction

ON_HOSTILE_DEFAULTS = True


def stored(connection: sa.Connection) -> pl.DataFrame:
    return read.week_rows(connection, "venue_volume", [WEEK]).sort("symbol", "venue_id")


BAD = pl.DataFrame({"line": [3], "record": ["B|x"], "reason": ["x is no number"]}, schema=REJECTED)


def test_rows_come_back_as_they_went_in_to_the_last_decimal_and_letter(engine: sa.Engine) -> None:
    """int() once lost FINRA's fractions, and upper-casing merged ABRpD with ABRPD."""
    rows = frame(
        row("ABRPD", "V1", "1"),
        row(
            "ABRpD",
            "V1",
            "0.000001",
            issue_name="double  blank, and | pipe\nand line",
            notional=Decimal("5027197407.123456"),
        ),
        row("Z", "79", "99999999999.999999", venue_kind="NON_ATS", mpid=None, firm_crd="79"),
    )
    with transaction(engine) as connection:
        load.replace_volume(connection, WEEK, T1, rows)
    with transaction(engine) as connection:
        assert stored(connection).equals(rows)


def test_a_revision_keeps_what_it_replaced_and_leaves_the_rest_untouched(
    engine: sa.Engine,
) -> None:
    """Worked by hand: B changes 10 to 12, C goes, D comes, A stays."""
    before = frame(row("A", "V1", "5"), row("B", "V1", "10"), row("C", "V1", "7"))
    after = frame(row("A", "V1", "5"), row("B", "V1", "12"), row("D", "V1", "1"))
    with transaction(engine) as connection:
        load.replace_volume(connection, WEEK, T1, before)
    with transaction(engine) as connection:
        change = load.replace_volume(connection, WEEK, T1, after)
    assert (change.added, change.changed, change.removed, change.unchanged) == (1, 1, 1, 1)
    assert (change.shares_before, change.shares_after) == (Decimal(22), Decimal(18))
    with transaction(engine) as connection:
        assert stored(connection).equals(after)
        kept = connection.execute(
            sa.text(
                "SELECT symbol, share_volume, change, known_from < known_to FROM otc.venue_volume_revision ORDER BY 1"
            )
        ).all()
        since = dict(connection.execute(sa.text("SELECT symbol, known_from FROM otc.venue_volume")).all())  # type: ignore[arg-type]
    assert kept == [("B", Decimal(10), "changed", True), ("C", Decimal(7), "removed", True)]
    assert since["A"] < since["B"] == since["D"]


def test_the_same_rows_again_change_nothing(engine: sa.Engine) -> None:
    rows = frame(row("A", "V1", "5.5"), row("B", "V1", "10", notional=Decimal("1.25")))
    with transaction(engine) as connection:
        load.replace_volume(connection, WEEK, T1, rows)
    with transaction(engine) as connection:
        change = load.replace_volume(connection, WEEK, T1, rows)
        assert (change.touched, change.unchanged) == (0, 2)
        assert connection.execute(sa.text("SELECT count(*) FROM otc.venue_volume_revision")).scalar() == 0


def test_a_load_that_fails_leaves_the_week_as_it_was(engine: sa.Engine) -> None:
    """A duplicate key in the middle of a load must not leave half a week behind."""
    good = frame(row("A", "V1", "5"))
    with transaction(engine) as connection:
        load.replace_volume(connection, WEEK, T1, good)
    with pytest.raises(psycopg.errors.UniqueViolation), transaction(engine) as connection:
        load.replace_volume(connection, WEEK, T1, frame(row("B", "V1", "1"), row("B", "V1", "2")))
    with pytest.raises(ValueError, match="twice"), transaction(engine) as connection:
        load.replace_volume(connection, WEEK, T1, frame(row("A", "V1", "5"), row("A", "V1", "5")))
    with transaction(engine) as connection:
        assert stored(connection).equals(good)


def test_another_tier_of_the_week_is_not_touched(engine: sa.Engine) -> None:
    other = frame(row("A", "V1", "5", tier="OTC"))
    with transaction(engine) as connection:
        load.replace_volume(connection, WEEK, "OTC", other)
        load.replace_volume(connection, WEEK, T1, frame(row("A", "V1", "6")))
        load.replace_volume(connection, WEEK, T1, frame(row("B", "V1", "6")))
        assert stored(connection).filter(pl.col("tier") == "OTC").equals(other)


def test_a_capture_is_recorded_with_the_rows_that_were_not_accepted_and_the_reasons(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        recorded = load.record_publication(connection, publication(), BAD)
        assert (recorded.revision, recorded.outcome) == (1, "new")
        bad = connection.execute(sa.text("SELECT line, record, reason FROM otc.rejected_record")).all()
    assert bad == [(3, "B|x", "x is no number")]


def test_the_same_bytes_again_are_not_recorded_twice_but_other_bytes_are_a_revision(engine: sa.Engine) -> None:
    with transaction(engine) as connection:
        first = load.record_publication(connection, publication(), BAD)
        again = load.record_publication(connection, publication(), BAD)
        other = load.record_publication(connection, publication(digest="b" * 64), BAD)
        back = load.record_publication(connection, publication(), BAD)
    assert (again.outcome, again.publication_id) == ("unchanged", first.publication_id)
    assert (other.outcome, other.revision) == ("revised", 2)
    # FINRA took the revision back: the old bytes are a new capture, which is effective from now on.
    assert (back.outcome, back.revision) == ("revised", 3)


def test_the_database_itself_refuses_books_that_do_not_balance(engine: sa.Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError, match="nothing_lost"), transaction(engine) as connection:
        load.record_publication(connection, publication(rows_received=3), BAD)


def test_two_loads_of_one_week_wait_for_each_other(engine: sa.Engine) -> None:
    """Two runs of a week at once once interleaved their deletes and inserts."""
    rows = [frame(*(row(f"S{n}", "V1", str(n + add)) for n in range(500))) for add in (1, 2, 3, 4)]
    errors: list[Exception] = []

    def work(volume: pl.DataFrame) -> None:
        try:
            with transaction(engine) as connection:
                load.replace_volume(connection, WEEK, T1, volume)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(volume,)) for volume in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with transaction(engine) as connection:
        final = stored(connection)
        kept = connection.execute(sa.text("SELECT count(*) FROM otc.venue_volume_revision")).scalar()
    assert any(final.equals(volume.sort("symbol")) for volume in rows)
    assert kept == 3 * 500


def test_a_computed_table_refuses_rows_of_another_week_and_unknown_tables(engine: sa.Engine) -> None:
    other = pl.DataFrame({"week_ending": [WEEK - dt.timedelta(weeks=1)]})
    with transaction(engine) as connection:
        with pytest.raises(ValueError, match="other weeks"):
            load.replace_week(connection, "symbol_summary", WEEK, other, "v")
        with pytest.raises(ValueError, match="not a computed table"):
            load.replace_week(connection, "publication", WEEK, SYMBOL_SUMMARY.to_frame(), "v")


def test_reading_keeps_nulls_empty_texts_and_booleans_apart(engine: sa.Engine) -> None:
    schema = pl.Schema({"a": pl.String, "b": pl.String, "c": pl.Boolean, "d": pl.Int64, "e": pl.Boolean})
    with transaction(engine) as connection:
        rows = copy_out(connection, "SELECT '', NULL, true, %s::bigint, NULL::boolean", schema, [7])
        none = copy_out(connection, "SELECT '', NULL, true, 7, NULL::boolean WHERE false", schema)
    assert rows.rows() == [("", None, True, 7, None)]
    assert none.rows() == []
    assert none.schema == schema
