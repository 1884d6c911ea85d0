"""Pages and ETags while weeks are loaded again. The rows are written by hand, so that each state is known."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from otc_assets.api.app import make_app
from otc_assets.client import Client
from otc_assets.domain.schema import VENUE_VOLUME
from otc_assets.domain.summaries import symbol_summary
from otc_assets.domain.weeks import weeks_between
from otc_assets.warehouse import load
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
