"""The queries of README.md and docs/questions.md, on the weeks that a first run loads.

What the answers have to be is computed by DuckDB from the simulator's rows, apart from the package.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path

import openpyxl
import polars as pl
import pytest
import time_machine
from support.first_run import LABOR_DAY, NOW, REVISED, WEEKS, FirstRun, Rows

from otc_assets.cli.run import _capture_before_revision
from otc_assets.client import Client
from otc_assets.domain.weeks import T1, trading_days, weeks_between
from otc_assets.settings import PROJECT_ROOT

pytestmark = pytest.mark.slow


def _blocks(path: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PROJECT_ROOT / path).read_text(), re.S)


@pytest.mark.parametrize("query", _blocks("README.md", "sql"))
def test_every_query_of_the_readme_returns_rows_of_a_first_run(first_run: FirstRun, query: str) -> None:
    """They named symbols and weeks that the simulator did not have."""
    assert first_run.sql(query)


def test_the_readme_shows_apple_in_the_newest_week_and_as_it_was_before_a_revision(first_run: FirstRun) -> None:
    newest, before = (query for query in _blocks("README.md", "sql") if "'AAPL'" in query)
    columns = "venue, shares, trades FROM"
    assert (
        first_run.sql(newest)
        == first_run.duck.execute(
            f"SELECT {columns} rows WHERE symbol = 'AAPL' AND week = '2026-09-25' ORDER BY shares DESC"
        ).fetchall()
    )
    assert (
        first_run.sql(before)
        == first_run.duck.execute(
            f"SELECT week, {columns} before WHERE symbol = 'AAPL' ORDER BY shares DESC"
        ).fetchall()
    )


def test_only_the_revised_publication_is_captured_twice_and_never_again(first_run: FirstRun) -> None:
    captures = "SELECT week_ending, tier, count(*) FROM otc.publication GROUP BY 1, 2 HAVING count(*) > 1"
    twice = first_run.sql(captures)
    assert twice == [(REVISED, T1.name, 2)]
    with time_machine.travel(NOW, tick=True):
        assert _capture_before_revision(first_run.launcher, WEEKS, lambda note: pytest.fail(note)) == []
    assert first_run.sql(captures) == twice


# --- docs/questions.md ---------------------------------------------------------------------------------


def _questions(language: str) -> dict[str, str]:
    """The statement, or the Python, under each question that has both."""
    parts = re.split(r"^## (.*)\n", (PROJECT_ROOT / "docs/questions.md").read_text(), flags=re.M)[1:]
    texts = {name: text for name, text in zip(parts[::2], parts[1::2], strict=True) if "```sql" in text}
    found = {name: re.findall(rf"```{language}\n(.*?)```", text, re.S) for name, text in texts.items()}
    assert [name for name, blocks in found.items() if len(blocks) != 1] == []
    return {name: block for name, (block,) in found.items()}


def _volume_by_ats(first_run: FirstRun, answer: Rows) -> None:
    assert (
        answer
        == first_run.duck.execute(
            "SELECT week, mpid, venue, shares, trades FROM rows WHERE symbol = 'AAPL' AND mpid IS NOT NULL"
            " ORDER BY week, shares DESC"
        ).fetchall()
    )


def _gains(first_run: FirstRun, answer: Rows) -> None:
    expected = first_run.duck.execute(
        "WITH named AS (SELECT week, tier, replace(id, 'SGMT', 'SGMA') AS venue_id, venue, shares FROM rows),"
        " shares AS (SELECT week, venue_id AS id, any_value(venue) AS venue, 100 * sum(shares)::DOUBLE"
        " / sum(sum(shares)::DOUBLE) OVER (PARTITION BY week) AS pct FROM named WHERE tier = 'NMS Tier 1'"
        " AND week > '2026-08-14' GROUP BY week, venue_id)"
        " SELECT max_by(venue, week), sum(pct) FILTER (week = '2026-09-25') AS now, sum(pct) / 6 AS usual FROM shares"
        " GROUP BY id HAVING now IS NOT NULL ORDER BY now - usual DESC LIMIT 10"
    ).fetchall()
    assert len(answer) == 10
    for (venue, now, usual, points), (name, share, average) in zip(answer, expected, strict=True):
        assert venue == name
        assert (float(now), float(usual)) == pytest.approx((share, average), abs=1e-5)
        assert points == now - usual


def _concentrated(first_run: FirstRun, answer: Rows) -> None:
    expected = first_run.duck.execute(
        "WITH sums AS (SELECT tier, symbol, sum(shares) AS total, sum(trades) AS trades FROM rows"
        " WHERE week = '2026-09-25' GROUP BY ALL)"
        " SELECT tier, symbol, sum((shares::DOUBLE / total) ** 2 * 10000"
        " / CASE id WHEN 'DE_MINIMIS' THEN r.trades ELSE 1 END) AS hhi, arg_max(id, shares), max(shares), total"
        " FROM rows r JOIN sums USING (tier, symbol) WHERE week = '2026-09-25' AND total >= 100000"
        " AND sums.trades >= 500 GROUP BY tier, symbol, total ORDER BY hhi DESC LIMIT 20"
    ).fetchall()
    assert len(answer) == len(expected) > 5
    for (tier, symbol, hhi, top, share, total), wanted in zip(answer, expected, strict=True):
        assert (tier, symbol, top, total) == (wanted[0], wanted[1], wanted[3], wanted[5])
        assert (float(hhi), float(share)) == pytest.approx((wanted[2], 100 * float(wanted[4] / total)), abs=1e-5)


def _changes(first_run: FirstRun, answer: Rows) -> None:
    assert max(rank for _, _, _, rank, *_ in answer) == 3
    found = {(week, tier, kind, rank): rest for week, tier, kind, rank, *rest, _ in answer}
    newest, newest_t2 = WEEKS[-1], LABOR_DAY
    # EXTM is in T1 for the first time in five weeks, and EXVM trades eight times its norm.
    moved = found[newest, "NMS Tier 1", "symbol_moved_tier", 1]
    assert moved == ["EXTM", "NMS Tier 2", "NMS Tier 1"]
    assert found[newest_t2, "NMS Tier 2", "symbol_volume", 1][0] == "EXVM"
    largest = first_run.duck.execute(
        "WITH shares AS (SELECT week, id, sum(shares)::DOUBLE / sum(sum(shares)::DOUBLE) OVER (PARTITION BY week)"
        " AS part FROM rows WHERE tier = 'NMS Tier 1' GROUP BY week, id)"
        " SELECT id FROM shares a JOIN shares b USING (id) WHERE a.week = '2026-09-18' AND b.week = '2026-09-25'"
        " ORDER BY abs(a.part - b.part) DESC LIMIT 3"
    ).fetchall()
    assert [found[newest, "NMS Tier 1", "venue_share", rank][0] for rank in (1, 2, 3)] == [each for (each,) in largest]


def _ats_and_others(first_run: FirstRun, answer: Rows) -> None:
    expected = first_run.duck.execute(
        "SELECT week, sum(shares) FILTER (mpid IS NOT NULL), sum(shares) FILTER (mpid IS NULL) FROM rows"
        " WHERE symbol = 'AAPL' GROUP BY week ORDER BY week"
    ).fetchall()
    assert [row[:3] for row in answer] == expected
    shares = [100 * float(ats / (ats + others)) for _, ats, others in expected]
    assert [float(row[3]) for row in answer] == pytest.approx(shares, abs=0.01)


def _moves(first_run: FirstRun, answer: Rows) -> None:
    expected = first_run.duck.execute(
        "WITH traded AS (SELECT DISTINCT week, tier, symbol, issue FROM rows)"
        " SELECT t.week, t.symbol, t.issue, max_by(o.tier, o.week), t.tier FROM traded t JOIN traded o"
        " ON o.symbol = t.symbol AND o.week BETWEEN t.week - 35 AND t.week - 7 AND o.tier <> t.tier"
        " WHERE NOT EXISTS (FROM traded s WHERE s.symbol = t.symbol AND s.tier = t.tier"
        " AND s.week BETWEEN t.week - 35 AND t.week - 7) GROUP BY ALL ORDER BY t.week, t.symbol"
    ).fetchall()
    assert answer == expected
    assert [(row[0], *row[3:]) for row in expected if row[1] == "EXTM"] == [
        (dt.date(2026, 8, 21), "NMS Tier 1", "NMS Tier 2"),
        (dt.date(2026, 9, 25), "NMS Tier 2", "NMS Tier 1"),
    ]


def _wholesalers(first_run: FirstRun, answer: Rows) -> None:
    """Those among the simulator's firms are Citadel Securities, 116797, and Virtu Americas, 149823."""
    expected = first_run.duck.execute(
        "SELECT week, count(DISTINCT id) FILTER (named),"
        " 100 * sum(shares) FILTER (named)::DOUBLE / sum(shares)::DOUBLE,"
        " 100 * sum(shares) FILTER (named)::DOUBLE / (sum(shares) FILTER (mpid IS NULL))::DOUBLE"
        " FROM (SELECT *, id IN ('116797', '149823') AS named FROM rows WHERE tier = 'NMS Tier 1')"
        " GROUP BY week ORDER BY week"
    ).fetchall()
    assert len(expected) == 8
    assert [row[:2] for row in answer] == [row[:2] for row in expected]
    for row, wanted in zip(answer, expected, strict=True):
        assert [float(value) for value in row[2:]] == pytest.approx(wanted[2:], abs=1e-5)


def _venue_history(_: FirstRun, answer: Rows) -> None:
    assert answer == [
        ("SGMA", "SGMA SIGMA X2", dt.date(2026, 8, 7), dt.date(2026, 8, 28), 4),
        ("SGMT", "SGMT SIGMA X2", dt.date(2026, 9, 4), dt.date(2026, 9, 25), 4),
    ]


def _holidays(first_run: FirstRun, answer: Rows) -> None:
    volumes = dict(
        first_run.duck.execute("SELECT week, sum(shares) FROM rows WHERE symbol = 'SPY' GROUP BY 1").fetchall()
    )
    assert [row[:3] for row in answer] == [(week, 4 if week == LABOR_DAY else 5, volumes[week]) for week in WEEKS]
    assert [row[3] for row in answer] == [round(volumes[week] / trading_days(week), 6) for week in WEEKS]
    # By hand: six weeks, of which Labor Day's is the sixth, have 29 trading days.
    window = weeks_between(dt.date(2026, 8, 7), LABOR_DAY)
    total = sum(volumes[week] for week in window)
    row = answer[WEEKS.index(LABOR_DAY)]
    daily, weekly = volumes[LABOR_DAY] / 4 / (total / 29), volumes[LABOR_DAY] / (total / 6)
    assert (float(row[4]), float(row[5])) == pytest.approx((float(daily - 1) * 100, float(weekly - 1) * 100), abs=1e-4)


def _revised(first_run: FirstRun, answer: Rows) -> None:
    expected = first_run.duck.execute(
        "SELECT coalesce(b.week, a.week), symbol, coalesce(b.venue, a.venue) AS named,"
        " CASE WHEN a.shares IS NULL THEN 'removed' WHEN b.shares IS NULL THEN 'added' ELSE 'changed' END, b.shares,"
        " a.shares FROM before b FULL JOIN (FROM rows WHERE week = '2026-08-28' AND tier = 'NMS Tier 1') a"
        " USING (symbol, id) WHERE a.shares IS DISTINCT FROM b.shares ORDER BY symbol, named"
    ).fetchall()
    assert [row[1:] for row in answer] == expected
    assert sorted(row[3] for row in expected) == ["added", *["changed"] * 5, "removed"]
    assert {row[1] for row in expected} == {"AAPL"}


def _missing(_: FirstRun, answer: Rows) -> None:
    assert answer == [
        (tier, "pending", week, due, False)
        for tier in ("NMS Tier 2", "OTC")
        for week, due in (
            (dt.date(2026, 9, 18), dt.date(2026, 10, 19)),
            (dt.date(2026, 9, 25), dt.date(2026, 10, 26)),
        )
    ]


_EXPECTED: dict[str, Callable[[FirstRun, Rows], None]] = {
    "How much of a symbol trades at each ATS, week by week?": _volume_by_ats,
    "Which venues gain share in a tier?": _gains,
    "Which symbols are most concentrated at few venues?": _concentrated,
    "What has changed since last week?": _changes,
    "How much of a symbol trades at ATSs, and how much at other firms?": _ats_and_others,
    "Which symbols moved to another tier?": _moves,
    "What did a week with a holiday trade per day?": _holidays,
    "What share of the volume do wholesalers have?": _wholesalers,
    "Under which MPIDs and names has a venue traded?": _venue_history,
    "What did FINRA revise since a date?": _revised,
    "Which weeks are missing, and when are they due?": _missing,
}


@pytest.mark.parametrize("question", _questions("sql"))
def test_a_question_is_answered_as_duckdb_answers_it(first_run: FirstRun, question: str) -> None:
    _EXPECTED[question](first_run, first_run.sql(_questions("sql")[question]))


@pytest.mark.parametrize("question", _questions("python"))
def test_a_question_is_answered_in_python_as_duckdb_answers_it(first_run: FirstRun, question: str) -> None:
    with Client(first_run.reader_url) as otc:
        names = {"otc": otc, "pl": pl, "dt": dt}
        exec(_questions("python")[question], names)  # noqa: S102
    answer = names["answer"]
    assert isinstance(answer, pl.DataFrame)
    _EXPECTED[question](first_run, answer.rows())


def test_everything_can_be_written_to_parquet_and_excel(
    first_run: FirstRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (script,) = (block for block in _blocks("docs/questions.md", "python") if "write_parquet" in block)
    monkeypatch.setenv("OTC_DATABASE_URL", first_run.url)
    monkeypatch.chdir(tmp_path)
    exec(script, {})  # noqa: S102
    workbook = openpyxl.load_workbook(tmp_path / "otc.xlsx", read_only=True)
    tables = {path.stem for path in tmp_path.glob("*.parquet")}
    assert set(workbook.sheetnames) == tables >= {"symbol_summary", "venue_share", "venue_volume"}
    for table in tables:
        ((count,),) = first_run.sql(f"SELECT count(*) FROM otc.{table}")
        assert pl.read_parquet(tmp_path / f"{table}.parquet").height == count > 10
        assert workbook[table].max_row == count + 1
    exact = first_run.duck.execute("SELECT sum(shares) FROM rows").fetchone()
    assert exact is not None
    written = pl.read_parquet(tmp_path / "venue_volume.parquet")
    assert written["share_volume"].sum() == exact[0]
    assert written["share_volume"].dtype.is_decimal()
    header, *sheet = workbook["symbol_summary"].iter_rows(values_only=True)
    in_excel = sum(float(row[header.index("total_volume")]) for row in sheet)
    assert in_excel == pytest.approx(float(exact[0]))
