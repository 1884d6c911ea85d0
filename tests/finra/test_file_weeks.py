"""The week of a download file is inferred from its rows and its name, or the file is refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from download_rows import HEADER, TODAY, WEEK, put, rows
from support.legacy_files import legacy_file, legacy_name

from otc_assets.domain.parsing import UnreadableFile
from otc_assets.domain.weeks import T1, T2, TIERS, Tier, publication_date
from otc_assets.finra.file_reader import read_file
from otc_assets.finra.simulator.files import download_file
from otc_assets.finra.simulator.generator import Simulator


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(scale=0.02)


@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.id)
@pytest.mark.parametrize("kind", ["ATS", "NON_ATS"])
def test_a_download_file_is_of_the_week_that_its_publication_day_says(
    simulator: Simulator, tmp_path: Path, tier: Tier, kind: str
) -> None:
    """2026-09-07 is Labor Day: T1 of this week was published on the Tuesday."""
    path = tmp_path / "downloaded.csv"
    path.write_bytes(download_file(simulator, WEEK, tier, kind, publication_date(WEEK, tier)))
    (capture,) = read_file(path)
    assert (capture.week_ending, capture.tier, capture.scope) == (WEEK, tier, kind)


@pytest.mark.parametrize("name", ["finra_20260908.csv", "week-2026-08-17.csv", "2026-08-21 T1.csv", "t1.csv"])
def test_the_date_in_the_name_may_be_the_publication_day_the_monday_or_the_friday(tmp_path: Path, name: str) -> None:
    path = put(tmp_path, name, HEADER + rows(T1, dt.date(2026, 9, 8)))
    assert read_file(path)[0].week_ending == WEEK


@pytest.mark.parametrize(
    ("name", "day", "said"),
    [
        ("finra_20260831.csv", dt.date(2026, 9, 8), "the date in its name is neither"),
        ("finra.csv", dt.date(2026, 9, 10), "must have a publication day of NMS Tier 1"),
        ("finra.csv", dt.date(2026, 9, 7), "must have a publication day of NMS Tier 1"),
    ],
    ids=["the name says another week", "no publication day", "the holiday itself"],
)
def test_a_file_whose_week_cannot_be_inferred_is_refused_with_a_reason_and_a_remedy(
    tmp_path: Path, name: str, day: dt.date, said: str
) -> None:
    """A guessed week is a wrong one: three days before the Monday were once used."""
    path = put(tmp_path, name, HEADER + rows(T1, day))
    with pytest.raises(UnreadableFile, match="--week-ending") as caught:
        read_file(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(name)


def test_single_revised_rows_do_not_change_the_inferred_week(tmp_path: Path) -> None:
    text = HEADER + rows(T1, dt.date(2026, 9, 8), 9) + rows(T1, dt.date(2026, 10, 1), 1)
    assert read_file(put(tmp_path, "f.csv", text))[0].week_ending == WEEK


LATER = dt.date(2026, 9, 14)  # T1 of the week ending 2026-08-28 is published


@pytest.mark.parametrize("order", ["older first", "newer first", "mixed"])
@pytest.mark.parametrize(("older", "newer"), [(12, 10), (10, 12), (10, 10), (50, 8), (8, 50)])
def test_two_weeks_in_one_file_are_refused_with_the_rows_of_each(
    tmp_path: Path, order: str, older: int, newer: int
) -> None:
    """All rows were assigned to the week of most of them: shares of two weeks were added up."""
    first, second = rows(T1, dt.date(2026, 9, 8), older), rows(T1, LATER, newer, mpid="JPMX")
    lines = (first + second if order != "newer first" else second + first).splitlines(keepends=True)
    if order == "mixed":
        lines = lines[::2] + lines[1::2]
    with pytest.raises(UnreadableFile) as caught:
        read_file(put(tmp_path, "both.csv", HEADER + "".join(lines)))
    message = str(caught.value)
    assert message.startswith("both.csv: it holds rows of several weeks of NMS Tier 1")
    assert f"{older} of 2026-09-08 (week ending 2026-08-21), {newer} of 2026-09-14 (week ending 2026-08-28)" in message
    assert "Split it by lastUpdateDate" in message


@pytest.mark.parametrize("week", [None, WEEK], ids=["inferred", "stated"])
def test_one_repeated_row_proves_a_second_week_however_few_its_rows_are(tmp_path: Path, week: dt.date | None) -> None:
    """A symbol at a venue occurs once in a publication."""
    text = HEADER + rows(T1, dt.date(2026, 9, 8), 1000) + rows(T1, LATER, 1)
    with pytest.raises(UnreadableFile, match="1 rows of the later week repeat a symbol at a venue"):
        read_file(put(tmp_path, "2026-08-21.csv", text), week_ending=week)


@pytest.mark.parametrize("days_early", [1, 7, 90])
def test_a_row_written_before_its_week_was_published_is_another_weeks(tmp_path: Path, days_early: int) -> None:
    day = dt.date(2026, 9, 8) - dt.timedelta(days=days_early)
    text = HEADER + rows(T1, dt.date(2026, 9, 8), 1000) + rows(T1, day, 1, mpid="JPMX")
    with pytest.raises(UnreadableFile, match="1 rows were written before 2026-09-08, when 2026-08-21 was published"):
        read_file(put(tmp_path, "f.csv", text))


def test_single_rows_revised_on_a_later_weeks_publication_day_stay_in_their_week(tmp_path: Path) -> None:
    """FINRA rewrites single rows on any weekday, Mondays included."""
    later = [LATER, dt.date(2026, 9, 21), dt.date(2026, 10, 5)]
    revised = "".join(rows(T1, day, 1, mpid=f"V{n}") for n, day in enumerate(later))
    text = HEADER + rows(T1, dt.date(2026, 9, 8), 97) + revised
    assert [c.week_ending for c in read_file(put(tmp_path, "f.csv", text))] == [WEEK]


def test_a_whole_week_rewritten_later_is_accepted_if_its_name_and_the_option_both_state_it(tmp_path: Path) -> None:
    text = HEADER + rows(T1, dt.date(2026, 9, 8), 5) + rows(T1, LATER, 50, mpid="JPMX")
    assert read_file(put(tmp_path, "2026-08-21.csv", text), week_ending=WEEK)[0].week_ending == WEEK
    with pytest.raises(UnreadableFile, match="into the file's name as well"):
        read_file(put(tmp_path, "f.csv", text), week_ending=WEEK)


def test_a_stated_week_is_compared_with_the_calendar(tmp_path: Path) -> None:
    path = put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 10)))
    assert read_file(path, week_ending=WEEK)[0].week_ending == WEEK
    with pytest.raises(UnreadableFile, match="check --week-ending"):
        read_file(path, week_ending=WEEK + dt.timedelta(weeks=1))


def test_a_stated_week_must_not_contradict_the_rows(tmp_path: Path) -> None:
    """A slip of one week in `--week-ending` would replace a whole publication with another week's."""
    wrong = WEEK - dt.timedelta(weeks=1)
    text = HEADER + rows(T1, dt.date(2026, 9, 8))
    with pytest.raises(UnreadableFile, match="publication day of the week ending 2026-08-21") as caught:
        read_file(put(tmp_path, "f.csv", text), week_ending=wrong)
    assert "2026-08-14 into the file's name" in str(caught.value)
    assert read_file(put(tmp_path, "f.csv", text), week_ending=WEEK)[0].week_ending == WEEK
    assert read_file(put(tmp_path, "2026-08-14.csv", text), week_ending=wrong)[0].week_ending == wrong


def test_a_future_week_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    with pytest.raises(UnreadableFile, match="not published before 2026-09-08"):
        read_file(path, today=dt.date(2026, 9, 7))


@pytest.mark.parametrize("kind", ["ATS", "NON_ATS"])
def test_a_legacy_file_is_of_the_monday_in_its_name(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    path = tmp_path / legacy_name(WEEK, T2, kind)
    path.write_bytes(legacy_file(simulator, WEEK, T2, kind, TODAY))
    (capture,) = read_file(path)
    assert (capture.week_ending, capture.tier, capture.scope) == (WEEK, T2, kind)
