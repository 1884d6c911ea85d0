"""Files on disk: their halves and tiers are recognized, and files that can't be FINRA's are not read."""

from __future__ import annotations

import datetime as dt
import json
import resource
from pathlib import Path

import pytest
from download_rows import HEADER, TODAY, WEEK, put, rows
from support.legacy_files import legacy_file, legacy_name

from otc_assets.domain.parsing import UnreadableFile
from otc_assets.domain.weeks import T1, TIERS, Tier
from otc_assets.finra.file_reader import read_bounded, read_file
from otc_assets.finra.simulator.files import download_file, file_name
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.source import PermanentSourceError


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator(scale=0.02)


def test_json_of_one_long_line_is_not_damaged_text(tmp_path: Path) -> None:
    """The Query API sends its records in one line; a byte order mark before it changes nothing."""
    path = tmp_path / "r.json"
    path.write_bytes(b"\xef\xbb\xbf [" + b" " * (3 << 20) + b"]")
    assert len(read_bounded(path)) == path.stat().st_size


def test_unknown_tiers_are_refused_by_name_and_never_treated_as_otc(tmp_path: Path) -> None:
    path = put(tmp_path, "f.csv", HEADER + rows(T1, dt.date(2026, 9, 8)).replace("NMS Tier 1", "NMS Tier 3"))
    with pytest.raises(UnreadableFile, match=r"'NMS Tier 3'.*NMS Tier 1, NMS Tier 2, OTC"):
        read_file(path)


def test_a_file_without_rows_is_refused_because_it_would_be_an_empty_week(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="header and no rows"):
        read_file(put(tmp_path, "f.csv", HEADER))


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


def bytes_read() -> int:
    """The bytes that this process has read from files so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("start", [b"", HEADER.encode()], ids=["from the start", "after a header"])
def test_a_line_of_ten_gigabytes_is_refused_before_it_is_read(tmp_path: Path, start: bytes) -> None:
    """Such a file once used all memory; this one is sparse, and reading it would take minutes."""
    path = tmp_path / "huge.csv"
    with path.open("wb") as handle:
        handle.write(start)
        handle.truncate(10 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = bytes_read()
    with pytest.raises(UnreadableFile, match="longer than 1 MiB"):
        read_bounded(path)
    assert bytes_read() - read < 100_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_file_that_cannot_be_opened_is_an_error_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(PermanentSourceError, match="No such file"):
        read_file(tmp_path / "nowhere.csv")


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
    path = put(tmp_path, (legacy_name if legacy else file_name)(WEEK, tier, "ATS"), "\n".join([*emptied, ""]))
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
