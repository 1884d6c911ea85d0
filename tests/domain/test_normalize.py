"""From records to venue volume and FINRA's totals: what is accepted, what is not, and why."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otc_assets.domain.normalize import normalize, split
from otc_assets.domain.parsing import UnreadableFile, parse
from otc_assets.domain.weeks import OTCE, T1, T2

WEEK = dt.date(2026, 8, 21)


def record(**other: object) -> dict[str, object]:
    return {
        "weekStartDate": "2026-08-17",
        "tierIdentifier": "T1",
        "tierDescription": "NMS Tier 1",
        "issueSymbolIdentifier": "ABC",
        "issueName": "Abc Inc.",
        "MPID": "PPEX",
        "firmCRDNumber": None,
        "marketParticipantName": "PPEX POOL",
        "totalWeeklyShareQuantity": 10,
        "totalWeeklyTradeCount": 4,
        "totalNotionalSum": 100.5,
        "productTypeCode": None,
        "summaryTypeCode": "ATS_W_SMBL_FIRM",
        "lastUpdateDate": "2026-09-08",
        "initialPublishedDate": "2026-09-08",
        **other,
    }


def parsed(*records: dict[str, object]):  # type: ignore[no-untyped-def]
    return parse(json.dumps(list(records)).encode(), name="f")


FIRM = {"MPID": None, "firmCRDNumber": "79", "marketParticipantName": "JUNIPER", "summaryTypeCode": "OTC_W_SMBL_FIRM"}
SMALL = {**FIRM, "firmCRDNumber": None, "marketParticipantName": "De Minimis Firms"}


def test_venues_are_named_by_mpid_by_crd_or_as_the_group_of_small_firms() -> None:
    nameless = {**FIRM, "firmCRDNumber": None, "marketParticipantName": "NO NUMBER LLC"}
    rows = normalize(
        parsed(record(), record(**FIRM), record(**SMALL), record(**nameless)), week_ending=WEEK, tier=T1
    ).volume
    assert rows.select("venue_kind", "venue_id").rows() == [
        ("ATS", "PPEX"),
        ("NON_ATS", "79"),
        ("DE_MINIMIS", "DE_MINIMIS"),
        ("NON_ATS", "name:NO NUMBER LLC"),
    ]


def test_a_firms_row_stays_a_firms_though_it_carries_an_mpid() -> None:
    """FINRA's totals go by the summaryTypeCode: by the MPID, the row would count in those of the ATSs."""
    result = normalize(parsed(record(**{**FIRM, "MPID": "JUNI"}), record(MPID=None)), week_ending=WEEK, tier=T1)
    assert result.volume.select("venue_kind", "venue_id", "mpid").rows() == [
        ("NON_ATS", "79", "JUNI"),
        ("ATS", "name:PPEX POOL", None),
    ]


@pytest.mark.parametrize("only", ["tierIdentifier", "tierDescription"])
def test_a_tier_may_be_named_by_its_identifier_or_its_description_alone(only: str) -> None:
    other = ({"tierIdentifier", "tierDescription"} - {only}).pop()
    assert normalize(parsed(record(**{other: None})), week_ending=WEEK, tier=T1).accepted == 1


def test_the_average_trade_size_is_exact_to_six_places_and_absent_without_trades() -> None:
    """10 / 4 and 10 / 3, by hand."""
    rows = normalize(
        parsed(
            record(),
            record(issueSymbolIdentifier="B", totalWeeklyTradeCount=3),
            record(issueSymbolIdentifier="C", totalWeeklyTradeCount=0),
        ),
        week_ending=WEEK,
        tier=T1,
    ).volume
    assert rows["avg_trade_size"].to_list() == [Decimal("2.5"), Decimal("3.333333"), None]


def test_totals_are_kept_apart_from_rows_and_never_added_to_them() -> None:
    """Summing all codes counts everything about four times: the commonest error in public code."""
    by_symbol = record(summaryTypeCode="ATS_W_SMBL", MPID=None, marketParticipantName=None, productTypeCode="UTP")
    by_venue = record(summaryTypeCode="ATS_W_FIRM", issueSymbolIdentifier=None, issueName=None)
    result = normalize(parsed(record(), by_symbol, by_venue), week_ending=WEEK, tier=T1)
    assert result.volume["share_volume"].to_list() == [Decimal(10)]
    assert result.totals.select("total_of", "venue_kind", "symbol", "venue_id").rows() == [
        ("SYMBOL", "ATS", "ABC", ""),
        ("VENUE", "ATS", "", "PPEX"),
    ]
    assert (result.received, result.accepted) == (3, 3)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"issueSymbolIdentifier": None, "issueName": None}, "missing symbol and issue name"),
        ({"issueSymbolIdentifier": None}, "missing symbol"),
        ({"MPID": None, "marketParticipantName": None}, "missing venue: no MPID, CRD number or name"),
        ({"tierIdentifier": "NMS"}, "under tierIdentifier NMS"),
        ({"tierIdentifier": "T9", "tierDescription": "Tier 9"}, "tier T9 / Tier 9 is not NMS Tier 1"),
        ({"tierIdentifier": "OTCE", "tierDescription": "OTC"}, "is not NMS Tier 1"),
        ({"tierIdentifier": "T2"}, "tier T2 / NMS Tier 1 is not NMS Tier 1"),
        ({"tierDescription": "NMS Tier 2"}, "tier T1 / NMS Tier 2 is not NMS Tier 1"),
        ({"tierIdentifier": None, "tierDescription": None}, "tier nothing / nothing is not NMS Tier 1"),
        ({"tierIdentifier": "NA", "tierDescription": "Not Applicable"}, "tier NA / Not Applicable"),
        ({"summaryTypeCode": None}, "missing summaryTypeCode"),
        ({"weekStartDate": "2026-08-18"}, "weekStartDate 2026-08-18 is not 2026-08-17"),
        ({"weekStartDate": None}, "weekStartDate nothing is not 2026-08-17"),
        ({"summaryTypeCode": "ATS_M_SMBL"}, "unknown summaryTypeCode ATS_M_SMBL"),
        ({"weekStartDate": "2026-08-10"}, "weekStartDate 2026-08-10 is not 2026-08-17"),
        ({"totalWeeklyShareQuantity": -1}, "totalWeeklyShareQuantity is negative"),
        ({"totalWeeklyTradeCount": -1}, "totalWeeklyTradeCount is negative"),
        ({"totalNotionalSum": -0.5}, "totalNotionalSum is negative"),
        ({"totalWeeklyShareQuantity": 10**14}, "totalWeeklyShareQuantity is implausible"),
    ],
)
def test_a_row_that_is_not_accepted_is_kept_verbatim_with_its_reason(other: dict[str, object], reason: str) -> None:
    bad = record(**({"issueSymbolIdentifier": "BAD"} | other))
    result = normalize(parsed(record(), bad), week_ending=WEEK, tier=T1)
    assert (result.received, result.accepted) == (2, 1)
    ((line, text, said),) = result.rejected.rows()
    assert (line, json.loads(text)) == (2, bad)
    assert reason in said


def test_the_second_row_of_a_key_is_rejected_and_names_the_first() -> None:
    result = normalize(
        parsed(record(), record(), record(totalWeeklyShareQuantity=11), record(issueName="Other")),
        week_ending=WEEK,
        tier=T1,
    )
    assert result.volume.height == 2
    assert result.rejected["line"].to_list() == [2, 3]
    assert "duplicate of line 1, with the same values" in result.rejected["reason"][0]
    assert "duplicate of line 1, with different values" in result.rejected["reason"][1]


def test_symbols_that_differ_in_case_alone_stay_two() -> None:
    rows = normalize(
        parsed(record(issueSymbolIdentifier="ABRpD"), record(issueSymbolIdentifier="ABRPD")), week_ending=WEEK, tier=T1
    ).volume
    assert rows["symbol"].to_list() == ["ABRpD", "ABRPD"]


def test_a_file_of_records_is_split_by_week_and_tier_and_no_row_is_left_out() -> None:
    other_week = record(weekStartDate="2026-08-10")
    otc = record(tierIdentifier="OTCE", tierDescription="OTC")
    double = record(tierIdentifier="NMS")
    nowhere = record(tierIdentifier="T9", tierDescription="Tier 9", issueSymbolIdentifier="X")
    parts = split(parsed(record(), other_week, otc, double, nowhere))
    assert list(parts) == [(dt.date(2026, 8, 14), T1), (WEEK, T1), (WEEK, OTCE)]
    results = {group: normalize(part, week_ending=group[0], tier=group[1]) for group, part in parts.items()}
    assert sum(result.received for result in results.values()) == 5
    assert [result.accepted for result in results.values()] == [1, 1, 1]
    assert "NMS" in results[WEEK, T1].rejected["reason"][0]
    assert "Tier 9" in results[dt.date(2026, 8, 14), T1].rejected["reason"][0]
    assert parts[WEEK, T1].raw["line"].to_list() == [1, 4]


def test_totals_that_do_not_say_what_they_are_of_are_refused_until_their_kind_is_given() -> None:
    bare = {
        k: v
        for k, v in record(productTypeCode="UTP").items()
        if k not in ("summaryTypeCode", "MPID", "firmCRDNumber", "marketParticipantName", "tierIdentifier")
    }
    with pytest.raises(UnreadableFile, match="--summary-type ATS_W_SMBL"):
        normalize(parsed(bare), week_ending=WEEK, tier=T1)
    normalized = normalize(parsed(bare), week_ending=WEEK, tier=T1, summary_type="OTC_W_SMBL")
    assert normalized.totals.select("total_of", "venue_kind", "symbol").rows() == [("SYMBOL", "NON_ATS", "ABC")]
    with pytest.raises(UnreadableFile, match="is not a summaryTypeCode"):
        normalize(parsed(bare), week_ending=WEEK, tier=T1, summary_type="WRONG")


def test_a_publication_of_another_tier_is_rejected_row_by_row() -> None:
    result = normalize(parsed(record()), week_ending=WEEK, tier=T2)
    assert (result.accepted, result.rejected.height) == (0, 1)


LARGE_HEADER = (
    "weekStartDate|tierIdentifier|tierDescription|issueSymbolIdentifier|issueName|MPID|firmCRDNumber|"
    "marketParticipantName|totalWeeklyShareQuantity|totalWeeklyTradeCount|summaryTypeCode|lastUpdateDate"
)


def large_row(number: int, damage: str | None) -> str:
    start, tier, symbol, shares = "2026-08-17", "T1", f"S{number}", "5"
    if damage == "negative":
        shares = "-5"
    elif damage == "other week":
        start = "2026-08-10"
    elif damage == "no symbol":
        symbol = ""
    elif damage == "other tier":
        tier = "T2"
    elif damage == "unreadable":
        shares = "x"
    elif damage == "duplicate":
        symbol = "S0"
    return f"{start}|{tier}|NMS Tier 1|{symbol}|I|PPEX||V|{shares}|1|ATS_W_SMBL_FIRM|2026-09-08"


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    count=st.sampled_from([1_000, 7_339, 20_011]),
    damages=st.dictionaries(
        st.floats(0.001, 0.999),
        st.sampled_from(["negative", "other week", "no symbol", "other tier", "unreadable", "duplicate"]),
        min_size=1,
        max_size=12,
    ),
    is_split=st.booleans(),
)
def test_bad_rows_scattered_through_a_large_frame_are_the_only_ones_rejected(
    count: int, damages: dict[float, str], is_split: bool
) -> None:
    """Polars panicked on 7,339 rows with 2, 3 or 5 bad ones: `pl.format` on a frame of several chunks."""
    bad = {max(1, int(place * count)): damage for place, damage in damages.items()}
    text = "\n".join([LARGE_HEADER, *(large_row(n, bad.get(n)) for n in range(count)), ""])
    publication = parse(text.encode(), name="f")
    if is_split:
        # Rows of another tier or week are parts of their own there; the first part takes what was not read.
        parts = split(publication)
        results = [normalize(part, week_ending=week, tier=tier) for (week, tier), part in parts.items()]
        assert sum(result.received for result in results) == count
        return
    result = normalize(publication, week_ending=WEEK, tier=T1)
    assert result.rejected["line"].to_list() == sorted(n + 2 for n in bad)
    assert result.rejected["record"].to_list() == [large_row(n, bad[n]) for n in sorted(bad)]
    assert result.rejected["reason"].null_count() == 0
    assert result.accepted == count - len(bad)
    assert result.volume["share_volume"].to_list() == [Decimal(5)] * (count - len(bad))


@pytest.mark.parametrize("count", [2, 3, 5, 500])
def test_scattered_negative_rows_are_each_rejected_with_their_value(count: int) -> None:
    """The frame that panicked, whatever the number of bad rows."""
    step = 7_339 // count
    bad = {n * step + 1 for n in range(count)}
    text = "\n".join([LARGE_HEADER, *(large_row(n, "negative" if n in bad else None) for n in range(7_339)), ""])
    result = normalize(parse(text.encode(), name="f"), week_ending=WEEK, tier=T1)
    assert result.rejected["reason"].to_list() == ["totalWeeklyShareQuantity is negative: -5.000000"] * count
    assert result.accepted == 7_339 - count


@pytest.mark.parametrize("stage", ["split", "normalize"])
def test_a_panic_in_polars_refuses_the_file_by_its_name(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic is no Exception: it went through every handler, ended the run and left no event."""

    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("assertion failed: i < self.len()")

    publication = parsed(record())
    monkeypatch.setattr(pl.DataFrame, "select", panic)
    with pytest.raises(UnreadableFile, match=r"^f: Polars failed on its rows \(assertion failed") as caught:
        split(publication) if stage == "split" else normalize(publication, week_ending=WEEK, tier=T1)
    assert "report it" in str(caught.value)
