"""Which captures are effective, how their rows merge, and what is quarantined: worked by hand, and in any order."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otc_assets.domain.enums import VenueKind
from otc_assets.domain.revisions import Part, assemble, effective, removal
from otc_assets.domain.schema import PUBLISHED_TOTAL, VENUE_VOLUME
from otc_assets.domain.weeks import T1

ATS, NON_ATS = VenueKind.ATS, VenueKind.NON_ATS

WEEK = dt.date(2026, 8, 21)
PUBLISHED, REVISED, LATER = dt.date(2026, 9, 8), dt.date(2026, 9, 21), dt.date(2026, 10, 5)
BOTH = frozenset({ATS, NON_ATS})


@dataclass(frozen=True)
class Capture:
    """The particulars of a capture; one that is not described further is a whole publication, unrevised."""

    id: int
    scope: str = "FULL"
    ats_last_update_date: dt.date | None = PUBLISHED
    non_ats_last_update_date: dt.date | None = PUBLISHED
    complete: bool = True
    rows_accepted: int = 10
    quarantined: bool = False
    accepted_over: dt.date | None = None
    withdrawn: bool = False


def ats_file(number: int, date: dt.date = PUBLISHED, **other: object) -> Capture:
    return Capture(number, "ATS", date, None, **other)  # type: ignore[arg-type]


def other_file(number: int, date: dt.date = PUBLISHED, **other: object) -> Capture:
    return Capture(number, "NON_ATS", None, date, **other)  # type: ignore[arg-type]


def bases(*captures: Capture) -> dict[str, int]:
    return {half: capture.id for half, capture in effective(captures).bases.items()}


# --- which captures are effective ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("captures", "expected"),
    [
        ([Capture(1), Capture(2, "FULL", REVISED, PUBLISHED)], {ATS: 2, NON_ATS: 2}),
        ([Capture(1, "FULL", REVISED, REVISED), Capture(2)], {ATS: 1, NON_ATS: 1}),
        ([Capture(1), Capture(2)], {ATS: 2, NON_ATS: 2}),
        ([ats_file(1), other_file(2)], {ATS: 1, NON_ATS: 2}),
        ([Capture(1), ats_file(2, REVISED)], {ATS: 2, NON_ATS: 1}),
        ([Capture(1), ats_file(2)], {ATS: 1, NON_ATS: 1}),
        ([ats_file(1, REVISED), Capture(2)], {ATS: 1, NON_ATS: 2}),
        ([ats_file(1, REVISED), ats_file(2)], {ATS: 1}),
        ([ats_file(1, rows_accepted=10), ats_file(2, rows_accepted=9)], {ATS: 1}),
        ([ats_file(1, rows_accepted=0)], {}),
        ([ats_file(1), ats_file(2, REVISED, complete=False)], {ATS: 1}),
        ([ats_file(1, complete=False)], {ATS: 1}),
        ([ats_file(1), ats_file(2, REVISED, quarantined=True)], {ATS: 1}),
        ([ats_file(1), ats_file(2, rows_accepted=5, accepted_over=PUBLISHED)], {ATS: 2}),
        ([ats_file(1), ats_file(2, complete=False, accepted_over=PUBLISHED)], {ATS: 2}),
        ([ats_file(1), ats_file(2, accepted_over=PUBLISHED), ats_file(3, REVISED)], {ATS: 3}),
        ([ats_file(1), ats_file(2, REVISED, withdrawn=True)], {ATS: 1}),
        ([ats_file(1, withdrawn=True)], {}),
        ([Capture(1, "PARTIAL")], {}),
    ],
    ids=[
        "a newer full publication",
        "an older full publication that came later",
        "two replies of one day: the later",
        "two halves",
        "a newer file of one half",
        "a file that says the same",
        "a full publication older than a file",
        "an older file that came later",
        "two files of one day: more rows",
        "a capture without an accepted row",
        "a file that was truncated",
        "a file that was truncated, alone",
        "a quarantined file",
        "a file that was accepted",
        "a file that was truncated, and accepted",
        "a revision after a file that was accepted",
        "a withdrawn file",
        "nothing but a withdrawn file",
        "some rows",
    ],
)
def test_of_each_half_the_capture_with_the_newest_rows_is_effective(
    captures: list[Capture], expected: dict[str, int]
) -> None:
    """An older download once took a revision back, and a file that was truncated replaced a complete one."""
    assert bases(*captures) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["FULL", "ATS", "NON_ATS", "PARTIAL"]),
            st.sampled_from([PUBLISHED, REVISED, LATER]),
            st.booleans(),
            st.integers(0, 3),
        ),
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_of_files_does_not_decide(drawn: list[tuple[str, dt.date, bool, int]], random: object) -> None:
    """Of captures that differ in date or in rows, the same one is effective in any order of arrival."""
    distinct = list(dict.fromkeys(drawn))

    def chosen(order: list[tuple[str, dt.date, bool, int]]) -> dict[str, tuple[str, dt.date, bool, int]]:
        captures = [Capture(n, s, d, d, complete=c, rows_accepted=r) for n, (s, d, c, r) in enumerate(order)]
        # Two full replies of one day are the exception: the later one is newer.
        return {half: order[base.id] for half, base in effective(captures).bases.items() if base.scope != "FULL"}

    shuffled = list(distinct)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert chosen(distinct) == chosen(shuffled)


def test_a_publication_is_complete_when_both_halves_are() -> None:
    assert effective([Capture(1)]).complete
    assert effective([ats_file(1), other_file(2)]).complete
    assert not effective([ats_file(1), other_file(2, complete=False)]).complete
    assert not effective([ats_file(1), Capture(2, "PARTIAL")]).complete
    assert effective([Capture(1)]).publication == Capture(1)
    assert effective([Capture(1), ats_file(2, REVISED)]).publication is None


# --- merging rows --------------------------------------------------------------------------------------


def row(symbol: str, venue: str, shares: int, date: dt.date | None = PUBLISHED, **other: object) -> dict[str, object]:
    is_ats = venue.isalpha() and venue.isupper() and len(venue) == 4
    return {
        "week_ending": WEEK,
        "tier": T1.name,
        "symbol": symbol,
        "issue_name": f"{symbol} Inc.",
        "product_type": "",
        "venue_kind": ATS if is_ats else NON_ATS,
        "venue_id": venue,
        "venue_name": f"NAME OF {venue}",
        "share_volume": Decimal(shares),
        "trade_count": 1,
        "last_update_date": date,
        **other,
    }


def rows(*found: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(found), schema=VENUE_VOLUME)


def total(symbol: str, kind: str, shares: int, date: dt.date) -> pl.DataFrame:
    values = {"total_of": "SYMBOL", "venue_kind": kind, "symbol": symbol, "share_volume": Decimal(shares)}
    fixed = {"week_ending": WEEK, "tier": T1.name, "issue_name": "", "product_type": "", "venue_id": ""}
    return pl.DataFrame([{**fixed, **values, "trade_count": 1, "last_update_date": date}], schema=PUBLISHED_TOTAL)


def part(number: int, volume: pl.DataFrame, base_of: frozenset[str] = frozenset(), **other: object) -> Part:
    values: dict[str, object] = {"totals": PUBLISHED_TOTAL.to_frame(), **other}
    return Part(number, volume, base_of=base_of, **values)  # type: ignore[arg-type]


def merged(*parts: Part) -> dict[tuple[str, str], int]:
    volume = assemble(parts).volume
    assert volume.schema == VENUE_VOLUME
    return {(s, v): int(n) for s, v, n in volume.select("symbol", "venue_id", "share_volume").rows()}


def test_pages_of_one_reply_add_up_whatever_their_order() -> None:
    """By hand, BBB = 1000 + 2000 + 4000. Records once replaced by symbol: a symbol on two pages lost rows."""
    first = part(1, rows(row("AAA", "UBSA", 5), row("BBB", "UBSA", 1000)))
    second = part(2, rows(row("BBB", "INCR", 2000), row("BBB", "LEVL", 4000)))
    expected = {("AAA", "UBSA"): 5, ("BBB", "UBSA"): 1000, ("BBB", "INCR"): 2000, ("BBB", "LEVL"): 4000}
    assert merged(first, second) == merged(second, first) == expected
    assert assemble([first, second]).rows_in_use == {1: 2, 2: 2}


def test_of_two_rows_with_one_key_the_newer_one_wins_whatever_the_order_of_captures() -> None:
    old = part(1, rows(row("AAA", "UBSA", 5), row("BBB", "UBSA", 7, REVISED)))
    new = part(2, rows(row("AAA", "UBSA", 6, REVISED), row("BBB", "UBSA", 8)))
    assert merged(old, new) == merged(new, old) == {("AAA", "UBSA"): 6, ("BBB", "UBSA"): 7}
    assert assemble([old, new]).rows_in_use == {1: 1, 2: 1}


def test_newer_records_replace_rows_of_a_whole_publication_and_others_do_not() -> None:
    """By hand: AAA is newer; BBB is not; CCC is a row that FINRA added; DDD is one that FINRA withdrew."""
    whole = part(1, rows(row("AAA", "UBSA", 5), row("BBB", "UBSA", 7)), BOTH)
    records = part(
        2,
        rows(
            row("AAA", "UBSA", 6, REVISED),
            row("BBB", "UBSA", 9),
            row("CCC", "UBSA", 1, REVISED),
            row("DDD", "UBSA", 1),
        ),
    )
    assert merged(whole, records) == {("AAA", "UBSA"): 6, ("BBB", "UBSA"): 7, ("CCC", "UBSA"): 1}
    assert assemble([whole, records]).rows_in_use == {1: 1, 2: 2}


def test_a_newer_file_of_one_half_leaves_the_other_half_as_it_is() -> None:
    whole = part(1, rows(row("AAA", "UBSA", 5), row("AAA", "7897", 2)), frozenset({NON_ATS}))
    ats = part(2, rows(row("AAA", "UBSA", 6, REVISED)), frozenset({ATS}))
    assert merged(whole, ats) == {("AAA", "UBSA"): 6, ("AAA", "7897"): 2}


def test_rows_of_two_layouts_are_matched_by_what_both_state() -> None:
    """A download file has neither product type nor CRD numbers: a firm once counted twice."""
    file = part(1, rows(row("AAA", "name:CITADEL", 5, venue_name="Citadel", venue_kind=NON_ATS)), frozenset({NON_ATS}))
    record = part(2, rows(row("AAA", "116797", 6, REVISED, venue_name="CITADEL", product_type="UTP")))
    assert merged(file, record) == {("AAA", "116797"): 6}


def test_rows_that_a_capture_can_not_distinguish_are_not_replaced() -> None:
    """Two issues under one ticker, and a record without issue names: it fits both."""
    both = rows(row("AAA", "UBSA", 5, issue_name="One"), row("AAA", "UBSA", 6, issue_name="Two"))
    record = part(2, rows(row("AAA", "UBSA", 9, REVISED, issue_name="")))
    volume = assemble([part(1, both, BOTH), record]).volume
    assert sorted(volume["share_volume"]) == [5, 6]


def test_a_total_that_is_older_than_a_row_it_sums_up_is_left_out() -> None:
    """With FINRA's total from before a revision, the revised week was graded F."""
    whole = part(
        1,
        rows(row("AAA", "UBSA", 5), row("BBB", "UBSA", 5)),
        frozenset({NON_ATS}),
        totals=pl.concat([total("AAA", ATS, 5, PUBLISHED), total("BBB", ATS, 5, PUBLISHED)]),
    )
    ats = part(2, rows(row("AAA", "UBSA", 6, REVISED), row("BBB", "UBSA", 5)), frozenset({ATS}))
    assert assemble([whole, ats]).totals["symbol"].to_list() == ["BBB"]
    newer = part(3, VENUE_VOLUME.to_frame(), totals=total("AAA", ATS, 6, REVISED))
    found = assemble([whole, ats, newer]).totals.select("symbol", "share_volume").rows()
    assert sorted(found) == [("AAA", Decimal(6)), ("BBB", Decimal(5))]


@pytest.mark.slow
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["UBSA", "INCR"]), st.integers(0, 3)), max_size=4),
        min_size=1,
        max_size=4,
    )
)
def test_merging_partial_captures_keeps_the_newest_row_of_each_key_in_any_order(
    drawn: list[list[tuple[str, str, int]]],
) -> None:
    """Judged by a loop over a dictionary. The days differ, so that one row of each key is the newest."""
    parts, expected, day = [], {}, itertools.count()
    for number, capture in enumerate(drawn):
        keys = {(symbol, venue): shares for symbol, venue, shares in capture}
        date = PUBLISHED + dt.timedelta(days=next(day))
        expected |= keys
        parts.append(part(number, rows(*(row(s, v, n, date) for (s, v), n in keys.items()))))
    assert merged(*parts) == expected
    assert merged(*reversed(parts)) == expected
    assert sum(assemble(parts).rows_in_use.values()) == len(expected)


def test_a_firm_is_one_venue_where_some_rows_have_its_number_and_others_its_name() -> None:
    """A file of the website, and the API's record of one revised row: it was two venues, of 900 and 150 shares."""
    firm = {"venue_name": "CITADEL", "venue_kind": NON_ATS}
    other = row("S0", "name:VIRTU", 7, venue_name="VIRTU", venue_kind=NON_ATS)
    website = part(
        1, rows(*(row(f"S{n}", "name:CITADEL", 100, **firm) for n in range(10)), other), frozenset({NON_ATS})
    )
    later = PUBLISHED + dt.timedelta(days=9)
    revised = part(2, rows(row("S3", "116797", 150, later, venue_name="Citadel", firm_crd="116797")))
    volume = assemble([website, revised]).volume
    assert dict(volume.group_by("venue_id").agg(pl.col("share_volume").sum().cast(pl.Int64)).rows()) == {
        "116797": 1050,
        "name:VIRTU": 7,
    }
    assert volume.filter(pl.col("venue_id") == "116797")["firm_crd"].unique().to_list() == ["116797"]
    # Two firms of one name: which of them a row is of, is not known.
    namesake = part(3, rows(row("NEW", "999", 1, later, venue_name="CITADEL", firm_crd="999")))
    ids = set(assemble([website, revised, namesake]).volume["venue_id"])
    assert ids == {"name:CITADEL", "116797", "999", "name:VIRTU"}


# --- quarantine ----------------------------------------------------------------------------------------


def hundred(shares: int = 100) -> list[dict[str, object]]:
    return [row(f"S{number}", venue, shares) for number in range(100) for venue in ("UBSA", "INCR")]


def test_a_revision_of_single_rows_is_no_removal() -> None:
    """FINRA rewrites single rows: up to two percent may go, and one row in any case."""
    before = hundred()
    assert removal(rows(*before), rows(*before)) is None
    assert removal(rows(*before), rows(*before[:-4])) is None
    assert removal(rows(*before), rows(*({**r, "share_volume": Decimal(1000)} for r in before))) is None
    assert removal(rows(*before[:2]), rows(before[0])) is None


def test_a_capture_that_lacks_rows_symbols_or_shares_of_the_one_before_is_a_removal() -> None:
    """By hand: 58 of 100 symbols are left; then each row has lost 3 of its 100 shares."""
    before = hundred()
    what = removal(rows(*before), rows(*before[:116]))
    assert what == "84 of 200 rows (42.0 %), 42 of 100 symbols (42.0 %), 8,400 of 20,000 shares (42.0 %)"
    less = [{**r, "share_volume": Decimal(97)} for r in before]
    assert removal(rows(*before), rows(*less)) == "600 of 20,000 shares (3.0 %)"
    assert removal(rows(*before), rows(*before[:-5])) == "5 of 200 rows (2.5 %), 500 of 20,000 shares (2.5 %)"


def test_an_issue_that_has_another_name_now_is_no_removal() -> None:
    """Of a penny stock that is a large part of the shares, two rows were taken for a fifth of the week."""
    before = [*hundred(), row("ECOX", "UBSA", 5_000), row("ECOX", "INCR", 5_000)]
    renamed = [{**r, "issue_name": "Eco Inc."} if r["symbol"] == "ECOX" else r for r in before]
    assert removal(rows(*before), rows(*renamed)) is None
    assert removal(rows(*before), rows(*renamed[:-2])) == "10,000 of 30,000 shares (33.3 %)"


def test_a_firm_that_is_named_by_its_number_now_is_no_removal() -> None:
    before = rows(*(row(f"S{n}", "name:CITADEL", 5, venue_name="CITADEL", venue_kind=NON_ATS) for n in range(50)))
    after = rows(*(row(f"S{n}", "116797", 5, venue_name="Citadel") for n in range(50)))
    assert removal(before, after) is None
