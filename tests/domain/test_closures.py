"""Closures of the NYSE that were announced at short notice: the list, and what follows from its days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from otc_assets.domain.closures import read_closures
from otc_assets.domain.periods import next_trading_day, settlement_dates_of, trading_days_of
from otc_assets.domain.reviewed import BadList
from otc_assets.domain.weeks import (
    NEW_YORK,
    T1,
    T2,
    due_at,
    newest_due,
    publication_date,
    trading_days,
    use_closures,
    week_published_on,
)
from otc_assets.settings import InvalidSettings, settings
from otc_assets.whole_files import MOST_BYTES

D = dt.date
HEADER = "day,source,reviewed"
#: A Monday in October 2026 on which the NYSE trades by its calendar: T1 of WEEK is published on it.
MONDAY, WEEK = D(2026, 10, 19), D(2026, 10, 2)


@pytest.fixture(autouse=True)
def _calendar() -> Iterator[None]:
    yield
    use_closures(frozenset())
    settings.cache_clear()


def line(day: str) -> str:
    return f"{day},a notice of the NYSE,2026-10-16"


@pytest.fixture
def announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Friday before, the NYSE announces that it is closed on Monday."""
    assert publication_date(WEEK, T1) == MONDAY
    path = tmp_path / "closures.csv"
    path.write_text("\n".join([HEADER, line(str(MONDAY)), ""]))
    monkeypatch.setenv("OTC_EXTRA_CLOSURES", str(path))
    settings.cache_clear()
    settings()


@pytest.mark.usefixtures("announced")
def test_publication_days_due_times_and_the_newest_week_follow_a_closure() -> None:
    tuesday = MONDAY + dt.timedelta(days=1)
    assert publication_date(WEEK, T1) == publication_date(WEEK - dt.timedelta(weeks=2), T2) == tuesday
    assert due_at(WEEK, T1) == dt.datetime(2026, 10, 20, 6, tzinfo=NEW_YORK)
    assert (week_published_on(MONDAY, T1), week_published_on(tuesday, T1)) == (None, WEEK)
    assert newest_due(T1, dt.datetime(2026, 10, 19, 23, tzinfo=NEW_YORK)) == WEEK - dt.timedelta(weeks=1)
    assert newest_due(T1, dt.datetime(2026, 10, 20, 6, tzinfo=NEW_YORK)) == WEEK


@pytest.mark.usefixtures("announced")
def test_trading_days_and_expected_days_of_other_data_sets_follow_a_closure() -> None:
    assert trading_days(D(2026, 10, 23)) == 4
    assert trading_days_of(D(2026, 10, 23)) == [D(2026, 10, day) for day in (20, 21, 22, 23)]
    assert next_trading_day(D(2026, 10, 16)) == D(2026, 10, 20)
    use_closures(frozenset({D(2026, 10, 15)}))
    assert settlement_dates_of(D(2026, 10, 16)) == [D(2026, 10, 14)]


def test_without_the_setting_the_calendar_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that read other settings before, as in tests, must not keep their days."""
    use_closures(frozenset({MONDAY}))
    monkeypatch.delenv("OTC_EXTRA_CLOSURES", raising=False)
    settings.cache_clear()
    settings()
    assert publication_date(WEEK, T1) == MONDAY


def test_a_day_that_is_a_holiday_anyway_changes_nothing() -> None:
    """A newer calendar of the package may know the closure: a file must not become invalid by an upgrade."""
    use_closures(read_closures([HEADER, line("2026-12-25")]))
    assert trading_days(D(2026, 12, 25)) == 4


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["day,reason", "2026-10-19,x"], "line 1: the header must be day,source,reviewed"),
        ([HEADER, line("2026-10-17")], "line 2: 2026-10-17 is a Saturday"),
        ([HEADER, line("19.10.2026")], "line 2: day must be a date as 2026-11-26"),
        ([HEADER, line("2026-10-19"), line("2026-10-19")], "line 3: 2026-10-19 is in line 2 already"),
        ([HEADER, "2026-10-19,,2026-10-16"], "line 2: a line has 3 values, none of them empty"),
        ([HEADER, *(line(str(D(2020, 1, 6) + dt.timedelta(weeks=n))) for n in range(201))], "more than 200 closures"),
    ],
)
def test_a_list_that_is_not_usable_is_refused_by_its_line_also_as_a_setting(
    lines: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadList, match=said):
        read_closures(lines)
    path = tmp_path / "closures.csv"
    path.write_text("\n".join(lines))
    monkeypatch.setenv("OTC_EXTRA_CLOSURES", str(path))
    settings.cache_clear()
    with pytest.raises(InvalidSettings, match=f"^OTC_EXTRA_CLOSURES: .*{said}"):
        settings()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "the file can't be read: No such file"),
        (b"\xff", "not UTF-8"),
        (b"#" * (MOST_BYTES + 1), "the file can't be read: File too large"),
    ],
    ids=["missing", "binary", "large"],
)
def test_a_file_that_cannot_be_read_as_a_list_is_refused(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "closures.csv"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("OTC_EXTRA_CLOSURES", str(path))
    settings.cache_clear()
    with pytest.raises(InvalidSettings, match=f"^OTC_EXTRA_CLOSURES: .*{said}"):
        settings()
