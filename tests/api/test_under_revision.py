"""Pages and ETags while weeks are loaded again. The rows are written by hand, so that each state is known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from otc_assets.api.app import make_app
from otc_assets.archive.store import LocalArchive
from otc_assets.client import VERBS, Client, select
from otc_assets.content import Held
from otc_assets.domain.datasets import DATASETS, REG_SHO_DAILY
from otc_assets.domain.parsing.dataset_rows import DatasetRows
from otc_assets.domain.schema import REJECTED, VENUE_VOLUME
from otc_assets.domain.summaries import symbol_summary
from otc_assets.domain.weeks import weeks_between
from otc_assets.finra.source import DatasetCapture
from otc_assets.pipeline.datasets import record_period
from otc_assets.warehouse import datasets, load
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.server import transaction

WEEKS = weeks_between(dt.date(2026, 8, 7), dt.date(2026, 8, 21))
NAMES = [f"S{number}" for number in range(5)]
PATH = "/v1/summary?columns=total_volume,symbol,week_ending"

#: By week and symbol, the volume.
State = dict[tuple[str, str], int]


def write(engine: sa.Engine, week: dt.date, volumes: dict[str, int]) -> None:
    """Loads the week with these symbols."""
    empty = dict.fromkeys(VENUE_VOLUME, None)
    given = {"tier": "NMS Tier 1", "issue_name": "", "product_type": "", "venue_kind": "ATS", "trade_count": 1}
    rows = [
        {
            **empty,
            **given,
            "week_ending": week,
            "symbol": name,
            "venue_id": "V",
            "mpid": "V",
            "share_volume": Decimal(n),
        }
        for name, n in volumes.items()
    ]
    with transaction(engine) as connection:
        summary = symbol_summary(pl.DataFrame(rows, schema=VENUE_VOLUME))
        load.replace_week(connection, "symbol_summary", week, summary, "v")


def as_rows(state: dict[dt.date, dict[str, int]]) -> State:
    return {(str(week), name): n for week, volumes in state.items() for name, n in volumes.items()}


def follow(api: TestClient, path: str | None, most: int = 1000) -> tuple[State, str | None]:
    """The rows of up to ``most`` pages, and the path that follows. No row is in two pages."""
    found: State = {}
    while path is not None and most:
        response = api.get(path)
        assert response.status_code == 200, response.text
        for row in response.json()["data"]:
            key = row["week_ending"], row["symbol"]
            assert key not in found
            found[key] = row["total_volume"]
        path, most = response.json()["next"], most - 1
    return found, path


@pytest.fixture
def api(database: str) -> Iterator[TestClient]:
    """The API on an empty database."""
    with Client(database) as client:
        yield TestClient(make_app(client))


volumes = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 9), min_size=1)


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    before=st.lists(volumes, min_size=3, max_size=3),
    revisions=st.lists(st.tuples(st.integers(0, 2), volumes), min_size=1, max_size=4),
    limit=st.integers(1, 6),
    weeks=st.sampled_from(["", "&weeks=last 2"]),
)
def test_pages_are_the_rows_of_the_first_page_whatever_is_loaded_between_them(
    api: TestClient,
    engine: sa.Engine,
    before: list[dict[str, int]],
    revisions: list[tuple[int, dict[str, int]]],
    limit: int,
    weeks: str,
) -> None:
    state = dict(zip(WEEKS, before, strict=True))
    for week, rows in state.items():
        write(engine, week, rows)
    expected = as_rows({week: rows for week, rows in state.items() if not weeks or week >= WEEKS[1]})
    found, following = follow(api, f"{PATH}&limit={limit}{weeks}", most=1)
    for number, rows in revisions:
        write(engine, WEEKS[number], rows)
        state[WEEKS[number]] = rows
        more, following = follow(api, following, most=1)
        assert not set(more) & set(found)
        found |= more
    more, _ = follow(api, following)
    assert not set(more) & set(found)
    assert found | more == expected
    assert follow(api, f"{PATH}&limit={limit}{weeks}")[0] == as_rows(
        {week: rows for week, rows in state.items() if not weeks or week >= WEEKS[1]}
    )


@pytest.mark.parametrize("symbol", ["A#1", "A?B", "100% A", "Ü", "日本", "<A>"])
def test_the_pages_below_a_name_with_any_characters_follow_each_other(
    api: TestClient, engine: sa.Engine, symbol: str
) -> None:
    """Venues of files without MPIDs have such names. The link had the path decoded: 404, or an error of the server."""
    for week in WEEKS:
        write(engine, week, {symbol: 1})
    path = f"/v1/symbols/{quote(symbol)}/summary?limit=1"
    assert follow(api, path)[0] == as_rows({week: {symbol: 1} for week in WEEKS})
    response = api.get(path)
    assert response.links["next"]["url"] == response.json()["next"]
    assert response.json()["next"].startswith(path)


def test_a_newer_week_does_not_move_the_pages_of_the_newest(api: TestClient, engine: sa.Engine) -> None:
    write(engine, WEEKS[0], {"S0": 1, "S1": 2, "S2": 3})
    first, following = follow(api, f"{PATH}&weeks=newest&limit=1", most=1)
    write(engine, WEEKS[1], {"S0": 7})
    rest, _ = follow(api, following)
    assert first | rest == as_rows({WEEKS[0]: {"S0": 1, "S1": 2, "S2": 3}})


def test_the_next_page_is_refused_where_no_moment_has_the_rows_of_the_first(api: TestClient, engine: sa.Engine) -> None:
    """A load began before the rows of the first page were loaded: as of that time, they were not known yet."""
    with transaction(engine) as running:
        running.execute(sa.text("SELECT otc.write_moment()"))
        write(engine, WEEKS[0], {"S0": 1, "S1": 2})
        _, following = follow(api, f"{PATH}&limit=1", most=1)
        write(engine, WEEKS[0], {"S0": 5, "S1": 6})
        assert following is not None
        refused = api.get(following)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:otc-assets:rows-changed")
    assert "Start again" in refused.json()["remedy"]


def test_an_etag_holds_until_a_week_of_the_rows_is_loaded_again(api: TestClient, engine: sa.Engine) -> None:
    for week in WEEKS:
        write(engine, week, {"S0": 1, "S1": 2})
    paths = {week: f"{PATH}&weeks={week}" for week in WEEKS}
    tags = {week: api.get(path).headers["etag"] for week, path in paths.items()}
    write(engine, WEEKS[1], {"S0": 1, "S1": 3})
    again = {week: api.get(path, headers={"If-None-Match": tags[week]}) for week, path in paths.items()}
    assert [response.status_code for response in again.values()] == [304, 200, 304]
    changed = again[WEEKS[1]]
    assert changed.json()["data"][1]["total_volume"] == 3
    assert changed.headers["etag"] != tags[WEEKS[1]]


def test_as_of_reads_what_was_known_then(api: TestClient, engine: sa.Engine) -> None:
    write(engine, WEEKS[0], {"S0": 1})
    with transaction(engine) as connection:
        moment: dt.datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
    write(engine, WEEKS[0], {"S0": 2, "S1": 3})
    assert follow(api, f"{PATH}&as_of={moment.isoformat()}")[0] == as_rows({WEEKS[0]: {"S0": 1}})
    assert follow(api, PATH)[0] == as_rows({WEEKS[0]: {"S0": 2, "S1": 3}})


# --- data sets, whose loads are captures -----------------------------------------------------------------

SHORT = "/v1/short_volume_daily?columns=symbol,total_volume"
MONDAY = dt.date(2026, 8, 17)


def capture(database: str, folder: Path, volumes: dict[str, int]) -> None:
    """Captures a day of the daily short sale volume with these symbols, as its asset does."""
    header = "|".join(field.name for field in REG_SHO_DAILY.fields)
    lines = [f"{MONDAY}|{name}|Q|NQTRF|0|0|{volume}" for name, volume in volumes.items()]
    content = "".join(f"{line}\n" for line in [header, *lines]).encode()
    found = DatasetCapture(REG_SHO_DAILY, MONDAY, Held(content), "test", len(lines))
    opened = Database(database)
    try:
        record_period(found, LocalArchive(folder), opened, None, 0.0)
    finally:
        opened.close()


def test_an_etag_of_a_data_set_holds_until_a_period_of_the_week_is_captured_again(
    api: TestClient, database: str, tmp_path: Path
) -> None:
    capture(database, tmp_path, {"S0": 1, "S1": 2})
    first = api.get(SHORT)
    assert [tuple(row.values()) for row in first.json()["data"]] == [("S0", 1), ("S1", 2)]
    same = {"If-None-Match": first.headers["etag"]}
    assert api.get(SHORT, headers=same).status_code == 304
    capture(database, tmp_path, {"S0": 1, "S1": 5, "S2": 3})
    again = api.get(SHORT, headers=same)
    assert again.status_code == 200
    assert [tuple(row.values()) for row in again.json()["data"]] == [("S0", 1), ("S1", 5), ("S2", 3)]


def test_pages_of_a_data_set_are_the_rows_of_the_first_page_although_it_is_captured_between_them(
    api: TestClient, database: str, tmp_path: Path
) -> None:
    capture(database, tmp_path, {"S1": 1, "S2": 2, "S4": 4})
    page = api.get(f"{SHORT}&limit=2").json()
    capture(database, tmp_path, {"S0": 9, "S1": 1, "S3": 9, "S4": 8})
    rows = page["data"] + api.get(page["next"]).json()["data"]
    assert [tuple(row.values()) for row in rows] == [("S1", 1), ("S2", 2), ("S4", 4)]


@pytest.mark.parametrize("name", [verb.name for verb in VERBS.values() if verb.has_history])
def test_the_version_of_every_table_with_history_changes_with_a_load_of_its_week_and_of_no_other(
    name: str, engine: sa.Engine, database: str
) -> None:
    table, week = VERBS[name].table, WEEKS[-1]
    nothing = pl.DataFrame(schema=table.schema)
    dataset = next((each for each in DATASETS if each.table == table.name), None)
    with Client(database) as client:
        weeks = [select(name, weeks=each) for each in WEEKS]
        before = [client.version(each)[0] for each in weeks]
        with transaction(engine) as connection:
            if dataset is not None:
                counts = dict.fromkeys(("bytes", "rows_expected", "rows_received", "rows_accepted", "rows_rejected"), 0)
                period = {"dataset": dataset.name, "period": week, "week_ending": week, "run_id": None}
                rows = DatasetRows(nothing, pl.DataFrame(schema=REJECTED))
                datasets.save_capture(connection, dataset, {**period, **counts, "digest": "", "origin": ""}, rows)
            elif table.name == "venue_volume":
                load.mark_computed(connection, table.name, week, "v", 0)  # as pipeline.volume does
            else:
                load.replace_week(connection, table.name, week, nothing, "v")
        after = [client.version(each)[0] for each in weeks]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False]
