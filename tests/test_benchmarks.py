"""The frame of the benchmarks: what is recorded, compared and written on the page. What they measure is their own."""

from __future__ import annotations

import inspect
import json
import os
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from benchmarks import __main__ as command
from benchmarks import page, peers, results
from benchmarks.publications import whole_week
from benchmarks.results import Measured, NotMeasured, Result, Row, Table, warnings
from benchmarks.servers import WholeServer, in_turn
from otc_assets.domain.weeks import TIERS
from otc_assets.settings import settings
from otc_assets.warehouse.server import connect

#: Recorded, and not measured any more: the index or the table that was compared is gone, or it was measured by hand.
_OF_THE_PAST = {"indexes", "raw_record", "archive"}


def result(*rows: Row) -> Result:
    return Result({"load": Table("way", list(rows))}, "2026-11-27", {"processors": 2, "memory_gib": 24}, {})


# --- the page ------------------------------------------------------------------------------------------------


def test_the_page_has_what_the_recorded_results_say() -> None:
    """After ``python -m benchmarks --record`` or a change of a file: ``python -m benchmarks.page``."""
    text = page.PAGE.read_text()
    assert page.written(text) == text


def test_every_recorded_table_is_on_the_page_once() -> None:
    named = re.findall(r"<!-- results: (\S+) -->", page.PAGE.read_text())
    recorded = [
        f"{path.stem}.{table}"
        for path in results.FOLDER.glob("*.json")
        for table in json.loads(path.read_text())["tables"]
    ]
    assert sorted(named) == sorted(recorded)


def test_what_is_recorded_has_a_benchmark_that_measures_it_again() -> None:
    assert {path.stem for path in results.FOLDER.glob("*.json")} - _OF_THE_PAST <= set(command.BENCHMARKS)


def test_recorded_results_name_the_machine_s_size_and_no_host_or_folder() -> None:
    for path in results.FOLDER.glob("*.json"):
        recorded = json.loads(path.read_text())
        assert recorded["machine"].keys() == {"processors", "memory_gib"}, path
        assert not re.search(r"(?<![\w.])/(?:work|tmp|home|root)\b|localhost|127\.0\.0\.1", path.read_text()), path


def test_a_table_has_ratios_and_what_is_wanted_of_them_in_its_last_columns() -> None:
    table = Table("way", [Row("ours", {"rows": 71_308, "ms": 1234.5}), Row("theirs", {"ms": 9.87}, 0.0123, most=1.5)])
    assert page.shown(table).splitlines() == [
        "| way | rows | ms | ratio | wanted |",
        "| --- | --- | --- | --- | --- |",
        "| ours | 71,308 | 1,234 |  |  |",
        "| theirs |  | 9.9 | 0.012 | at most 1.5 |",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_every_benchmark_has_a_function_that_takes_its_arguments(name: str) -> None:
    module, *arguments = command.BENCHMARKS[name]
    inspect.signature(import_module(f"benchmarks.{module}").run).bind(*arguments)


# --- comparing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "before", "higher_is_better", "warned"),
    [
        (1.24, 1.0, False, False),
        (1.26, 1.0, False, True),
        (0.5, 1.0, False, False),
        (8.1, 10.0, True, False),
        (7.9, 10.0, True, True),
        (20.0, 10.0, True, False),
    ],
)
def test_a_ratio_that_is_worse_by_more_than_a_quarter_is_a_warning(
    now: float, before: float, *, higher_is_better: bool, warned: bool
) -> None:
    rows = [Row("ours", {}, ratio, higher_is_better=higher_is_better) for ratio in (now, before)]
    found = list(warnings(result(rows[0]), result(rows[1])))
    assert found == ([f"load, ours: the ratio is {now:.3g}; the recorded one is {before:.3g}"] if warned else [])


def test_a_ratio_outside_its_bound_is_a_warning_unless_it_was_recorded_so() -> None:
    fast = result(Row("first load", {}, 1.4, most=1.5), Row("plain design", {}, 5.1, least=5, higher_is_better=True))
    slow = result(Row("first load", {}, 1.6, most=1.5), Row("plain design", {}, 4.9, least=5, higher_is_better=True))
    assert list(warnings(slow, fast)) == [
        "load, first load: the ratio is 1.6; wanted is at most 1.5",
        "load, plain design: the ratio is 4.9; wanted is at least 5",
    ]
    assert (list(warnings(slow, slow)), list(warnings(fast, fast))) == ([], [])


def test_a_ratio_that_was_never_recorded_is_a_warning() -> None:
    """Otherwise a renamed row would not be compared any more."""
    new = result(Row("renamed", {}, 1.0))
    said = ["load, renamed: the ratio is 1; none is recorded to compare it with"]
    assert list(warnings(new, result(Row("name", {}, 1.0)))) == said
    assert list(warnings(new, None)) == said


def test_a_result_is_the_same_after_it_was_saved() -> None:
    saved = result(Row("dlt", {"CPU ms": 1500.0, "rows": 71_308, "way": "merge"}, 12.5, least=5, higher_is_better=True))
    assert Result.of_json(saved.to_json()) == saved


# --- the command ---------------------------------------------------------------------------------------------


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Measured | NotMeasured], None]:
    """Adds a benchmark that returns or raises this, with a folder and a page of its own."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text("Text.\n")

    def add(name: str, outcome: Measured | NotMeasured) -> None:
        def run() -> Measured:
            if isinstance(outcome, NotMeasured):
                raise outcome
            return outcome

        monkeypatch.setitem(command.BENCHMARKS, name, (name,))
        module = ModuleType(f"benchmarks.{name}")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return add


def measured(ratio: float, *missing: str) -> Measured:
    return Measured({"load": Table("way", [Row("ours", {"ms": 5.0}, ratio)])}, {"dlt": "1.31.0"}, list(missing))


def test_recorded_results_are_what_later_ones_are_compared_with(fake, capsys, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "page.md").write_text("Text.\n\n<!-- results: mine.load -->\n<!-- end of results -->\n\nMore.\n")
    fake("mine", measured(1.0))
    assert command.main(["mine", "--record"]) == 0
    assert results.recorded("mine").versions["dlt"] == "1.31.0"  # type: ignore[union-attr]
    written = (tmp_path / "page.md").read_text()
    assert "| ours | 5.0 | 1.00 |" in written
    assert (written.startswith("Text.\n"), written.endswith("More.\n")) == (True, True)
    capsys.readouterr()
    fake("mine", measured(1.3))
    assert (command.main(["mine"]), command.main(["mine", "--strict"])) == (0, 1)
    assert capsys.readouterr().out.count("warning: load, ours: the ratio is 1.3; the recorded one is 1") == 2
    fake("mine", measured(1.1))
    assert command.main(["mine", "--strict"]) == 0


def test_a_result_of_which_a_part_is_missing_is_not_recorded(fake, capsys, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fake("mine", measured(1.0, "there is no dlt"))
    assert command.main(["mine", "--record"]) == 0
    assert list(tmp_path.glob("*.json")) == []
    assert "not measured: there is no dlt" in capsys.readouterr().out


def test_a_benchmark_whose_server_is_missing_says_so_and_the_next_one_runs(fake, capsys) -> None:  # type: ignore[no-untyped-def]
    fake("first", NotMeasured("OTC_TEST_TIMESCALE_URL is not set"))
    fake("second", measured(1.0))
    assert command.main(["first", "second"]) == 0
    said = capsys.readouterr().out
    assert said.index("not measured: OTC_TEST_TIMESCALE_URL is not set") < said.index("| ours | 5.0 | 1.00 |")


def test_the_environment_of_a_benchmark_does_not_reach_the_next_one(  # type: ignore[no-untyped-def]
    fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTC_HOME", str(tmp_path))
    fake("mine", measured(1.0))

    def run() -> Measured:
        os.environ["OTC_HOME"] = str(tmp_path / "other")
        settings.cache_clear()
        assert settings().home == tmp_path / "other"
        return measured(1.0)

    sys.modules["benchmarks.mine"].run = run  # type: ignore[attr-defined]
    command.main(["mine"])
    assert (os.environ["OTC_HOME"], settings().home) == (str(tmp_path), tmp_path)
    settings.cache_clear()


def test_an_unknown_benchmark_is_a_usage_error_that_lists_the_known_ones(capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as ended:
        command.main(["laod"])
    assert ended.value.code == 2
    assert "no such benchmark: laod. There are parse, load, memory, peers," in capsys.readouterr().err


# --- measuring -----------------------------------------------------------------------------------------------


def test_works_run_in_turn_and_the_least_of_each_counts() -> None:
    now, done = [0.0], []

    def work(name: str, *durations: float) -> Callable[[], None]:
        left = list(durations)

        def run() -> None:
            now[0] += left.pop(0)
            done.append(name)

        return run

    works = {"fast": (work("fast", 5, 3, 4), 3), "slow": (work("slow", 70), 1)}
    assert in_turn(lambda: now[0], works, lambda: done.append("-")) == {"fast": 3, "slow": 70}
    assert " ".join(done) == "- fast - slow - fast - fast"


def test_the_processor_time_of_a_server_includes_sessions_that_have_ended(
    sql: psycopg.Connection, database: str
) -> None:  # type: ignore[type-arg]
    """Counting ten million numbers takes hundreds of milliseconds of it."""
    watch = WholeServer(sql.info.backend_pid)
    before = watch.server()
    with psycopg.connect(database) as connection:
        connection.execute("SELECT count(*) FROM generate_series(1, 10000000)")
        during = watch.server()
    assert during - before > 100
    # The session's process ends a little after its connection: while it ends, and after that.
    for _ in range(20):
        assert watch.server() - before > 100
        sql.execute("SELECT pg_sleep(0.01)")


def test_a_revised_publication_differs_in_some_hundred_rows_of_venues_by_a_share() -> None:
    head = "weekStartDate|totalWeeklyShareQuantity|summaryTypeCode|lastUpdateDate\n"
    rows = [f"2026-08-17|{n}.5|{'ATS_W_SMBL_FIRM' if n % 2 else 'ATS_W_SMBL'}|2026-09-08\n" for n in range(2_400)]
    content = (head + "".join(rows)).encode()
    changed = peers.revised({TIERS[0]: content})[TIERS[0]].decode().splitlines(keepends=True)
    different = [(a, b) for a, b in zip([head, *rows], changed, strict=True) if a != b]
    assert len(different) == 300
    assert all(b == a.replace(f"|{a.split('|')[1]}|", f"|{float(a.split('|')[1]) + 1}|") for a, b in different)
    assert all("_FIRM" in a for a, _ in different)


@pytest.mark.slow
def test_peers_store_what_ours_stores(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small publication and its revision. The benchmark compares sums itself; dlt is not among our packages."""
    monkeypatch.setenv("OTC_BENCH_DLT_PYTHON", "/nowhere/python")
    databases = peers.Databases(connect(database), {TIERS[0]: whole_week(0.01)[TIERS[0]]})
    loaded, changed, versions, missing = peers.loads(databases, 2)
    complete = ["plain design", "pandas"]
    assert [row.name for row in loaded if row.least == 5] == complete
    assert [row.name for row in changed] == ["ours", *complete]
    assert (versions, missing) == ({}, ["OTC_BENCH_DLT_PYTHON is /nowhere/python: No such file or directory"])
    # What the sums are of: the rows of venues that the publication has.
    lines = databases.publications[TIERS[0]].decode().splitlines()
    shares = [Decimal(line.split("|")[9]) for line in lines if "_SMBL_FIRM|" in line]
    databases.empty()
    databases.complete()["plain design"](databases.publications)
    assert databases.sums("peer.volume")[:2] == (len(shares), sum(shares))
    databases.plain.close()
    databases.engine.dispose()
