"""Files on disk: their week is inferred or they are refused, and files that can't be FINRA's are not read."""

from __future__ import annotations

import datetime as dt
import json
import os
import resource
import time
from pathlib import Path

import pytest

from otc_assets.domain.parsing import UnreadableFile
from otc_assets.domain.weeks import OTCE, T1, T2, TIERS, Tier, publication_date, weeks_between
from otc_assets.finra.download_files import DownloadFiles
from otc_assets.finra.file_reader import read_bounded, read_file
from otc_assets.finra.simulator.files import download_file, file_name, legacy_file, write_files
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.source import PermanentSourceError, PublicationState

WEEK = dt.date(2026, 8, 21)
TODAY = dt.date(2026, 10, 14)
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate\n"
)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(scale=0.02)


def rows(tier: Tier, day: dt.date, count: int = 10, mpid: str = "PPEX") -> str:
    return "".join(f"{tier.name}|S{n}|Issue {n}|VENUE|{mpid}|{n + 1}|1|{day}\n" for n in range(count))


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


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


def test_json_of_one_long_line_is_not_damaged_text(tmp_path: Path) -> None:
    """The Query API sends its records in one line; a byte order mark before it changes nothing."""
    path = tmp_path / "r.json"
    path.write_bytes(b"\xef\xbb\xbf [" + b" " * (3 << 20) + b"]")
    assert len(read_bounded(path)) == path.stat().st_size


def test_a_future_week_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    with pytest.raises(UnreadableFile, match="not published before 2026-09-08"):
        read_file(path, today=dt.date(2026, 9, 7))


def test_unknown_tiers_are_refused_by_name_and_never_treated_as_otc(tmp_path: Path) -> None:
    path = put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 8)).replace("NMS Tier 1", "NMS Tier 3"))
    with pytest.raises(UnreadableFile, match=r"'NMS Tier 3'.*NMS Tier 1, NMS Tier 2, OTC"):
        read_file(path)


def test_a_file_without_rows_is_refused_because_it_would_be_an_empty_week(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="header and no rows"):
        read_file(put(tmp_path, "f.csv", HEADER))


@pytest.mark.parametrize("kind", ["ATS", "NON_ATS"])
def test_a_legacy_file_is_of_the_monday_in_its_name(simulator: Simulator, tmp_path: Path, kind: str) -> None:
    path = tmp_path / file_name(WEEK, T2, kind, legacy=True)
    path.write_bytes(legacy_file(simulator, WEEK, T2, kind, TODAY))
    (capture,) = read_file(path)
    assert (capture.week_ending, capture.tier, capture.scope) == (WEEK, T2, kind)


def test_records_of_the_api_are_parts_of_every_week_they_touch(tmp_path: Path) -> None:
    record = {"tierIdentifier": "T1", "issueSymbolIdentifier": "A", "summaryTypeCode": "ATS_W_SMBL_FIRM", "MPID": "X"}
    figures = {"totalWeeklyShareQuantity": 1, "totalWeeklyTradeCount": 1}
    weeks = ["2026-08-10", "2026-08-17"]
    path = put(tmp_path, "r.json", json.dumps([{**record, **figures, "weekStartDate": week} for week in weeks]))
    captures = read_file(path)
    assert [(c.week_ending, c.scope) for c in captures] == [(dt.date(2026, 8, 14), "PARTIAL"), (WEEK, "PARTIAL")]
    assert [c.week_ending for c in read_file(path, week_ending=WEEK)] == [WEEK]
    with pytest.raises(UnreadableFile, match="none of its records"):
        read_file(path, week_ending=dt.date(2026, 8, 7))


@pytest.mark.parametrize("start", [b"", HEADER.encode()], ids=["from the start", "after a header"])
def test_a_line_of_ten_gigabytes_is_refused_before_it_is_read(tmp_path: Path, start: bytes) -> None:
    """Such a file once used all memory; this one is sparse, and reading it would take minutes."""
    path = tmp_path / "huge.csv"
    with path.open("wb") as handle:
        handle.write(start)
        handle.truncate(10 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    with pytest.raises(UnreadableFile, match="longer than 1 MiB"):
        read_bounded(path)
    assert time.monotonic() - begun < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_file_that_cannot_be_opened_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(PermanentSourceError, match="No such file"):
        read_file(tmp_path / "nowhere.csv")


def test_a_folder_of_files_is_a_source(simulator: Simulator, tmp_path: Path) -> None:
    weeks = weeks_between(dt.date(2026, 8, 14), WEEK)
    write_files(simulator, tmp_path, weeks, [T1, OTCE], TODAY)
    put(tmp_path, "notes.csv", "not a publication")
    put(tmp_path, ".hidden", "x")
    source = DownloadFiles(tmp_path, clock=lambda: TODAY)
    assert source.offered() == {(tier, week) for tier in (T1, OTCE) for week in weeks}
    captures = source.fetch(WEEK, T1)
    assert sorted(c.scope for c in captures) == ["ATS", "NON_ATS"]
    publication = simulator.publication(WEEK, T1, TODAY)
    assert publication is not None
    firm_rows = publication.filter(publication["summaryTypeCode"].str.ends_with("_SMBL_FIRM"))
    assert source.state(WEEK, T1) == PublicationState(firm_rows.height, firm_rows["lastUpdateDate"].max())  # type: ignore[arg-type]
    assert source.state(WEEK, T2) is None
    assert source.fetch(WEEK, T2) == []


def test_of_two_files_for_one_half_the_one_with_newer_rows_is_used(tmp_path: Path) -> None:
    put(tmp_path, "b-old.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    put(tmp_path, "a-new.csv", HEADER + rows(T1, dt.date(2026, 9, 8), 9) + rows(T1, dt.date(2026, 10, 1), 1))
    source = DownloadFiles(tmp_path, clock=lambda: TODAY)
    assert [c.origin for c in source.fetch(WEEK, T1)] == ["a-new.csv"]
    state = source.state(WEEK, T1)
    assert state is not None
    assert state.last_update_date == dt.date(2026, 10, 1)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    source = DownloadFiles(tmp_path, clock=lambda: TODAY)
    assert source.state(WEEK, T1) == PublicationState(10, dt.date(2026, 9, 8))
    path.write_text(HEADER + rows(T1, dt.date(2026, 9, 8), 11))
    os.utime(path, (1, 1))
    assert source.state(WEEK, T1) == PublicationState(11, dt.date(2026, 9, 8))


def test_a_file_of_a_future_week_is_offered_on_its_publication_day(tmp_path: Path) -> None:
    """A long-lived source once never forgot that it had refused the file."""
    put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 8)))
    today = dt.date(2026, 9, 7)
    source = DownloadFiles(tmp_path, clock=lambda: today)
    assert source.offered() == set()
    today = dt.date(2026, 9, 8)
    assert source.offered() == {(T1, WEEK)}


@pytest.mark.parametrize("legacy", [False, True], ids=["website", "legacy"])
@pytest.mark.parametrize("tier", TIERS, ids=lambda tier: tier.id)
def test_a_file_of_atss_that_has_lost_its_mpids_is_not_a_file_of_firms(
    simulator: Simulator, tmp_path: Path, tier: Tier, legacy: bool
) -> None:
    """It was treated as the non-ATS half of the week, and would have replaced it."""
    write = legacy_file if legacy else download_file
    lines = write(simulator, WEEK, tier, "ATS", TODAY).decode().splitlines()
    place = lines[0].split("|").index("ATS_MPID" if legacy else "MPID")
    emptied = [lines[0]]
    for line in lines[1:]:
        values = line.split("|")
        if len(values) > place:
            values[place] = ""
        emptied.append("|".join(values))
    path = put(tmp_path, file_name(WEEK, tier, "ATS", legacy=legacy), "\n".join([*emptied, ""]))
    with pytest.raises(UnreadableFile, match="none of its rows has an MPID, but its venues are named as ATSs are"):
        read_file(path)
    assert [c.scope for c in read_file(path, summary_type="OTC_W_SMBL_FIRM")] == ["NON_ATS"]
    assert [c.scope for c in read_file(path, summary_type="ATS_W_SMBL_FIRM")] == ["ATS"]


def test_a_file_of_firms_some_of_which_begin_with_four_letters_is_one_of_firms(tmp_path: Path) -> None:
    firms = ["JANE STREET CAPITAL, LLC", "CITADEL SECURITIES LLC", "De Minimis Firms"]
    text = HEADER + "".join(f"NMS Tier 1|A|A Inc.|{firm}||5|1|2026-09-08\n" for firm in firms)
    assert read_file(put(tmp_path, "f.csv", text))[0].scope == "NON_ATS"


@pytest.mark.parametrize(
    "names",
    [
        ["FIRM ONE LLC", "FIRM TWO LLC"],
        ["ACME CO"],
        [f"FIRM {n} LLC" for n in range(9)],
        ["WELL A", "BANK B", "DASH C"],
    ],
    ids=["two firms", "one firm", "nine firms of a name", "three names that look like MPIDs"],
)
def test_firms_whose_names_begin_with_four_letters_are_firms(tmp_path: Path, names: list[str]) -> None:
    """A file of firms was refused, because 'FIRM' could be an MPID."""
    day = dt.date(2026, 9, 8)
    lines = "".join(f"{T1.name}|S{n}|Issue {n}|{name}||5|1|{day}\n" for n in range(9) for name in names)
    (capture,) = read_file(put(tmp_path, "firms.csv", HEADER + lines))
    assert capture.scope == "NON_ATS"
