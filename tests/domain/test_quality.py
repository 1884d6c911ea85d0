"""Findings and grades: every judgement right and wrong, at its threshold, on rows worked by hand."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from weekly_rows import WEEK, volume, volume_row, volumes

from otc_assets.domain.checks import (
    CHECKS,
    GRADE,
    GRADED,
    checks_of,
    grade,
    judge_rows,
    judge_shares,
    judge_volume,
    worst,
)
from otc_assets.domain.concentration import market_concentration, symbol_concentration
from otc_assets.domain.enums import FirmRole, Severity, VenueKind
from otc_assets.domain.firms import Firm, role_share
from otc_assets.domain.quality.evidence import Evidence
from otc_assets.domain.schema import (
    DE_MINIMIS_VENUE_ID,
    FINDING,
    PUBLISHED_TOTAL,
    VENUE_SHARE,
    VENUE_VOLUME,
    WEEK_QUALITY,
)
from otc_assets.domain.summaries import venue_share
from otc_assets.domain.weeks import OTCE, T1

ATS, DE_MINIMIS, NON_ATS = VenueKind.ATS, VenueKind.DE_MINIMIS, VenueKind.NON_ATS

NO_TOTALS = PUBLISHED_TOTAL.to_frame()
WHOLE = frozenset({ATS, NON_ATS, DE_MINIMIS})
BEFORE = WEEK - dt.timedelta(weeks=1)
ROWS = volume(
    [
        ("A", "UBSA", "100", 4),
        ("A", "INCR", "50.5", 2),
        ("A", "7897", "0.000001", 1),
        ("A", DE_MINIMIS_VENUE_ID, "9", 3),
        ("B", "UBSA", "7", 1),
    ]
)


def total(
    of: str, kind: str, name: str, shares: str | Decimal, trades: int, notional: str | None = None
) -> dict[str, Any]:
    """One of FINRA's totals: of a symbol, or of a venue."""
    return {
        "week_ending": WEEK,
        "tier": T1.name,
        "total_of": of,
        "venue_kind": kind,
        "symbol": name if of == "SYMBOL" else "",
        "issue_name": "",
        "product_type": "",
        "venue_id": name if of == "VENUE" else "",
        "share_volume": Decimal(shares),
        "trade_count": trades,
        "notional": Decimal(notional) if notional is not None else None,
    }


#: Of ROWS, added up by hand.
TOTALS = pl.DataFrame(
    [
        total("SYMBOL", ATS, "A", "150.5", 6),
        total("SYMBOL", ATS, "B", "7", 1),
        total("SYMBOL", NON_ATS, "A", "9.000001", 4),
        total("VENUE", ATS, "UBSA", "107", 5),
        total("VENUE", ATS, "INCR", "50.5", 2),
        total("VENUE", NON_ATS, "7897", "0.000001", 1),
        total("VENUE", NON_ATS, DE_MINIMIS_VENUE_ID, "9", 3),
    ],
    schema=PUBLISHED_TOTAL,
)


def evidence(rows: pl.DataFrame = ROWS, totals: pl.DataFrame = TOTALS, **others: Any) -> Evidence:
    """A complete, reconciled publication, except for ``others``."""
    count = rows.height + totals.height
    right: dict[str, Any] = {
        "week_ending": WEEK,
        "tier": T1,
        "volume": rows,
        "totals": totals,
        "rows_received": count,
        "rows_accepted": count,
        "rows_rejected": 0,
        "rows_published_twice": 0,
        "rows_expected": count,
        "covered_kinds": WHOLE,
        "complete": True,
    }
    return Evidence(**right | others)


def part(rows: pl.DataFrame, totals: pl.DataFrame = NO_TOTALS, **others: Any) -> Evidence:
    """Some records of a publication."""
    return evidence(rows, totals, **{"covered_kinds": frozenset(), "complete": False, "rows_expected": None, **others})


def half(kind: str, rows: pl.DataFrame, **others: Any) -> Evidence:
    """A download file of the website: all ATSs, or all firms, without totals."""
    kinds = frozenset({ATS}) if kind == ATS else frozenset({NON_ATS, DE_MINIMIS})
    return part(rows, covered_kinds=kinds, **others)


def finding(judged: Evidence, check: str) -> dict[str, Any]:
    """The one finding of a check."""
    (row,) = judge_volume(judged).filter(pl.col("check_name") == check).to_dicts()
    return row


def failed(judged: Evidence) -> list[str]:
    """The checks that a (week, tier) fails."""
    return judge_volume(judged).filter(~pl.col("passed"))["check_name"].to_list()


def graded(judged: Evidence) -> tuple[str, int]:
    """Its grade and score."""
    (row,) = grade(judge_volume(judged)).to_dicts()
    return row["grade"], row["score"]


def with_rows(*rows: dict[str, Any]) -> pl.DataFrame:
    """Venue volume of these rows alone."""
    return pl.DataFrame(rows, schema=VENUE_VOLUME)


# --- a right week --------------------------------------------------------------------------------------


def test_a_right_week_passes_every_check_and_is_a() -> None:
    """Guards against checks that fail on what is right: fractions, De Minimis firms, no earlier week."""
    findings = judge_volume(evidence())
    assert findings.schema == FINDING
    assert findings["check_name"].to_list() == [check.name for check in GRADED]
    assert findings["passed"].all()
    assert grade(findings).rows() == [(WEEK, T1.name, "A", 100, "[]")]
    assert grade(findings).schema == WEEK_QUALITY


def test_without_an_earlier_week_comparisons_pass_and_say_so() -> None:
    """The first week of a new installation must not be doubted for being the first."""
    for check in ("venue_count_drop", "volume_swing"):
        for previous in (None, VENUE_VOLUME.to_frame()):
            row = finding(evidence(previous=previous), check)
            assert (row["passed"], row["observed"]) == (True, None)
            assert "no earlier week" in row["detail"]


# --- what makes a week useless -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others", "off"),
    [
        ({"rows_received": 13}, 1.0),  # 12 accepted: one is nowhere
        ({"rows_received": 11, "rows_expected": 11}, 1.0),
        ({"rows_received": 14, "rows_rejected": 1}, 1.0),
        ({"rows_received": 13, "rows_accepted": 13, "rows_expected": 13}, 1.0),  # accepted, and not in the tables
    ],
)
def test_books_that_dont_balance_are_f(others: dict[str, Any], off: float) -> None:
    """Nothing lost, nothing twice: a row that was received is accepted or rejected."""
    judged = evidence(**others)
    assert finding(judged, "rows_reconciled")["observed"] == off
    assert graded(judged) == ("F", 0)


def test_rows_in_use_that_are_not_in_the_tables_are_lost() -> None:
    """Of several captures some rows are replaced by newer ones; the others must be in the tables."""
    merged = part(ROWS, TOTALS, rows_received=20, rows_accepted=20, rows_in_use=12)
    row = finding(merged, "rows_reconciled")
    assert (row["passed"], "(8 were replaced by newer ones)" in row["detail"]) == (True, True)
    assert "20 rows captured, 12 of them in use" in finding(merged, "complete")["detail"]
    lost = part(ROWS, TOTALS, rows_received=20, rows_accepted=20, rows_in_use=13)
    assert (finding(lost, "rows_reconciled")["observed"], graded(lost)) == (1.0, ("F", 0))


def test_a_quarantined_capture_is_an_error_that_says_what_to_do_and_never_makes_a_week_f() -> None:
    """The rows that are effective are right; which of the two captures FINRA means is an operator's decision."""
    waiting = evidence(quarantined=((7, "it would remove 5 of 9 rows"),))
    row = finding(waiting, "none_quarantined")
    assert (row["passed"], row["severity"], row["observed"]) == (False, "error", 1.0)
    assert "capture 7 is quarantined: it would remove 5 of 9 rows" in row["detail"]
    assert "otc-assets captures accept" in row["detail"]
    assert graded(waiting) == ("B", 85)
    assert graded(half(ATS, ROWS.filter(pl.col("venue_kind") == ATS), quarantined=((7, "x"),)))[0] == "D"


def test_rejected_rows_are_reconciled() -> None:
    """A rejection is an entry in the books, not a loss."""
    assert finding(evidence(rows_received=13, rows_rejected=1, rows_expected=13), "rows_reconciled")["passed"]


def test_a_duplicate_key_is_graded_f() -> None:
    """Every sum over it would count it twice."""
    twice = pl.concat(
        [ROWS, ROWS.head(1).with_columns(pl.lit(Decimal(1)).cast(ROWS["share_volume"].dtype).alias("share_volume"))]
    )
    judged = evidence(twice, NO_TOTALS)
    assert finding(judged, "unique_keys")["observed"] == 1.0
    assert graded(judged) == ("F", 0)


def test_keys_that_differ_only_in_case_or_issue_are_two() -> None:
    """Symbols are case-sensitive, and a ticker may have two issues."""
    rows = with_rows(
        volume_row("ABRpD", "UBSA", 1, 1),
        volume_row("ABRPD", "UBSA", 1, 1),
        volume_row("ABRPD", "UBSA", 1, 1) | {"issue_name": "Another"},
    )
    assert finding(evidence(rows, NO_TOTALS), "unique_keys")["passed"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"share_volume": Decimal("-0.000001")},
        {"trade_count": -1},
        {"notional": Decimal(-1)},
        {"share_volume": Decimal(10**13 + 1)},
        {"trade_count": 10**10 + 1},
    ],
)
def test_negative_and_implausible_values_are_grade_f(wrong: dict[str, Any]) -> None:
    """No market trades minus one share, or a hundred times all there are."""
    judged = evidence(with_rows(volume_row("A", "UBSA", 1, 1) | wrong), NO_TOTALS)
    assert failed(judged) == ["plausible_values"]
    assert "A at UBSA" in finding(judged, "plausible_values")["detail"]
    assert graded(judged) == ("F", 0)


def test_rows_of_another_tier_are_f() -> None:
    """Tiers mapped to one another in silence are a known error of others."""
    judged = evidence(with_rows(volume_row("A", "UBSA", 1, 1, tier="OTC")), NO_TOTALS)
    assert failed(judged) == ["known_tier"]
    assert graded(judged) == ("F", 0)


# --- FINRA's totals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", range(TOTALS.height))
@pytest.mark.parametrize("column", ["share_volume", "trade_count"])
def test_a_sum_that_differs_from_finras_total_by_the_least_is_f(row: int, column: str) -> None:
    """To the share, to its millionth, to the trade: by symbol and by venue, at ATSs and at firms.

    A single firm's total is a warning, and seen: what is in it besides its rows FINRA does not say.
    """
    changed = TOTALS.to_dicts()
    changed[row][column] += Decimal("0.000001") if column == "share_volume" else 1
    judged = evidence(totals=pl.DataFrame(changed, schema=PUBLISHED_TOTAL))
    assert failed(judged) == ["matches_finra_totals"]
    assert finding(judged, "matches_finra_totals")["observed"] == 1.0
    one_firm = changed[row]["total_of"] == "VENUE" and changed[row]["venue_kind"] == "NON_ATS"
    assert finding(judged, "matches_finra_totals")["severity"] == ("warn" if one_firm else "error")
    assert graded(judged) == (("A", 100) if one_firm else ("F", 0))


def test_a_difference_is_named_with_both_figures() -> None:
    """What a person needs to ask FINRA, or to look for the row."""
    wrong = TOTALS.to_dicts()
    wrong[0]["share_volume"] = Decimal(2000)
    detail = finding(evidence(totals=pl.DataFrame(wrong, schema=PUBLISHED_TOTAL)), "matches_finra_totals")["detail"]
    assert "1 of 7 totals differ" in detail
    assert "ATS A: ours 150.500000 shares, 6 trades; FINRA's 2,000.000000 shares, 6 trades" in detail


def test_a_symbol_or_total_that_only_one_side_has_is_a_difference() -> None:
    """A publication that lost all rows of a symbol would otherwise reconcile."""
    for rows, totals in (
        (ROWS.filter(pl.col("symbol") == "A"), TOTALS.filter(pl.col("total_of") == "SYMBOL")),
        (ROWS, TOTALS.filter((pl.col("total_of") == "SYMBOL") & (pl.col("symbol") == "A"))),
    ):
        judged = evidence(rows, totals)
        assert finding(judged, "matches_finra_totals")["observed"] == 1.0
        assert "none" in finding(judged, "matches_finra_totals")["detail"]


def test_without_totals_there_is_nothing_to_compare_and_that_is_said() -> None:
    """The website's files have none: that is no error, and no proof either."""
    row = finding(half(ATS, ROWS.filter(pl.col("venue_kind") == ATS)), "matches_finra_totals")
    assert row["passed"]
    assert "nothing to compare" in row["detail"]


def test_records_of_one_symbols_totals_judge_that_symbol_in_two_halves_and_no_other() -> None:
    """Both halves are the whole; totals that came beside them as records of a part are not all totals."""
    some = TOTALS.filter((pl.col("total_of") == "SYMBOL") & (pl.col("symbol") == "A"))
    right = evidence(totals=some, rows_expected=None)
    assert finding(right, "matches_finra_totals")["detail"].startswith("2 totals equal")
    wrong = evidence(ROWS.slice(1), some, rows_expected=None)
    assert finding(wrong, "matches_finra_totals")["observed"] == 1.0
    assert graded(wrong) == ("F", 0)


def test_a_part_may_fall_short_of_the_totals_and_may_not_exceed_them() -> None:
    """Short is what a part is; more than there is can't be a part of it."""
    some = TOTALS.filter((pl.col("total_of") == "SYMBOL") & (pl.col("symbol") == "A"))
    short = part(ROWS.head(1), some)
    row = finding(short, "matches_finra_totals")
    assert (row["passed"], row["severity"], row["observed"]) == (False, "warn", 1.0)
    assert graded(short)[0] == "D"
    more = ROWS.head(1).with_columns(pl.col("trade_count") + 3)  # 7 trades of 6
    assert finding(part(more, some), "matches_finra_totals")["severity"] == "error"
    assert graded(part(more, some)) == ("F", 0)


@pytest.mark.parametrize(("stated", "right"), [("31.5", True), ("31.500001", False), ("28.5", True), ("28.4", False)])
def test_dollars_may_differ_by_half_a_dollar_for_each_figure_that_finra_rounded(stated: str, right: bool) -> None:
    """By hand: two rows of 10 and 20 dollars and a total of each are rounded by themselves: 30 +- 1.5.

    130 of 169 weeks of AAPL differ from FINRA's total so, while shares and trades are equal.
    """
    rows = with_rows(
        volume_row("A", "UBSA", 1, 1) | {"notional": Decimal(10)},
        volume_row("A", "INCR", 1, 1) | {"notional": Decimal(20)},
    )
    totals = pl.DataFrame([total("SYMBOL", ATS, "A", "2", 2, stated)], schema=PUBLISHED_TOTAL)
    assert finding(evidence(rows, totals), "matches_finra_totals")["passed"] is right


def test_dollars_are_compared_only_where_both_sides_have_them() -> None:
    """The website's files have none."""
    totals = pl.DataFrame([total("SYMBOL", ATS, "A", "2", 2, "999")], schema=PUBLISHED_TOTAL)
    rows = with_rows(
        volume_row("A", "UBSA", 1, 1) | {"notional": Decimal(10)},
        volume_row("A", "INCR", 1, 1),
    )
    assert finding(evidence(rows, totals), "matches_finra_totals")["passed"]


# --- the calendar --------------------------------------------------------------------------------------


def published(*days: dt.date, column: str = "initial_published_date") -> Evidence:
    """A week whose rows have these publication dates. It is due on 2026-09-08."""
    rows = [volume_row(f"S{n}", "UBSA", 1, 1) | {column: day} for n, day in enumerate(days)]
    return evidence(with_rows(*rows), NO_TOTALS)


DUE, NEXT = dt.date(2026, 9, 8), dt.date(2026, 9, 14)


@pytest.mark.parametrize(
    ("days", "wrong"),
    [
        ([DUE, DUE], 0),
        ([DUE, DUE, NEXT], 0),  # a row that FINRA added later
        ([DUE, NEXT], 0),
        ([dt.date(2026, 9, 10)] * 3, 0),  # FINRA was late: no week's publication day
        ([dt.date(2026, 8, 31), DUE, DUE], 1),  # before the week came out
        ([NEXT, NEXT, DUE], 2),  # most came out with the week after
    ],
)
def test_rows_published_on_another_weeks_day_are_of_another_week(days: list[dt.date], wrong: int) -> None:
    """The wrong week is the commonest error with these files, because they don't name it."""
    row = finding(published(*days), "week_in_calendar")
    assert (row["passed"], row["observed"]) == (wrong == 0, float(wrong))


def test_a_doubtful_week_names_the_week_that_it_may_be() -> None:
    """The message must say what to do next."""
    row = finding(published(NEXT, NEXT), "week_in_calendar")
    assert "the publication day of the week ending 2026-08-28" in row["detail"]
    assert graded(published(NEXT, NEXT)) == ("C", 80)


def test_rows_revised_later_keep_their_week() -> None:
    """``lastUpdateDate`` counts only where there is no first publication day: revisions come for months."""
    first = volume_row("A", "UBSA", 1, 1) | {"initial_published_date": DUE, "last_update_date": NEXT}
    assert finding(evidence(with_rows(first), NO_TOTALS), "week_in_calendar")["passed"]
    assert not finding(published(NEXT, column="last_update_date"), "week_in_calendar")["passed"]


# --- completeness --------------------------------------------------------------------------------------


def test_a_publication_short_of_finras_count_is_d() -> None:
    """Right as far as it goes: it can be used, and must be seen to be short."""
    short = evidence(totals=NO_TOTALS, rows_expected=9, complete=False)
    row = finding(short, "complete")
    assert (row["passed"], row["observed"], row["threshold"]) == (False, 5.0, 9.0)
    assert "5 rows of 9" in row["detail"]
    assert graded(short) == ("D", 60)


def test_half_a_publication_is_d_and_says_which_half_it_lacks() -> None:
    """The website's files are halves."""
    judged = half(ATS, ROWS.filter(pl.col("venue_kind") == ATS))
    assert "incomplete: NON_ATS" in finding(judged, "complete")["detail"]
    assert graded(judged) == ("D", 60)


def test_one_bad_row_of_a_small_file_says_nothing_of_the_others() -> None:
    """Two rows, one of which PostgreSQL can't store: the week was F, and the good row was lost with the bad one."""
    judged = evidence(ROWS.head(1), NO_TOTALS, rows_received=2, rows_accepted=1, rows_rejected=1, rows_expected=2)
    assert finding(judged, "rejection_rate")["passed"]
    two = evidence(ROWS.head(1), NO_TOTALS, rows_received=3, rows_accepted=1, rows_rejected=2, rows_expected=3)
    assert not finding(two, "rejection_rate")["passed"]


@pytest.mark.parametrize(("rejected", "passed"), [(1, True), (2, False)])
def test_more_than_one_row_in_a_hundred_rejected_is_another_layout(rejected: int, passed: bool) -> None:
    """By hand: 1 of 100 rows is 1 %, 2 of 101 are 1.98 %."""
    rows = volume([(f"S{n}", "UBSA", "1", 1) for n in range(99)])
    totals = NO_TOTALS
    judged = evidence(rows, totals, rows_received=99 + rejected, rows_rejected=rejected, rows_expected=99 + rejected)
    assert finding(judged, "rejection_rate")["passed"] is passed
    assert graded(judged) == (("A", 100) if passed else ("C", 80))


def test_rows_that_finra_published_twice_are_no_sign_of_a_wrong_layout() -> None:
    """17 weeks of 2023 were published twice: half of their rows are rejected, and the weeks are correct."""
    judged = evidence(rows_received=24, rows_rejected=12, rows_published_twice=12, rows_expected=24)
    assert graded(judged) == ("A", 100)


# --- against the week before ---------------------------------------------------------------------------


def venues(count: int, week: dt.date = WEEK) -> pl.DataFrame:
    """A week of so many ATSs, which trade a thousand shares together."""
    each = Decimal(1000) / count
    return volume([("A", f"ATS{chr(65 + n)}", str(each), 1) for n in range(count)], week)


def shares(amount: str, week: dt.date) -> pl.DataFrame:
    """A week of one ATS that trades so many shares."""
    return volume([("A", "UBSA", amount, 1)], week)


def against(rows: pl.DataFrame, previous: pl.DataFrame, week: dt.date = WEEK) -> Evidence:
    """A whole week without totals, and the one before."""
    return evidence(rows, NO_TOTALS, previous=previous, week_ending=week)


@pytest.mark.parametrize(
    ("now", "passed", "drop"), [(10, True, 0.0), (8, True, 20.0), (7, False, 30.0), (12, True, -20.0)]
)
def test_a_fifth_of_the_venues_may_go_and_not_more(now: int, passed: bool, drop: float) -> None:
    """By hand, with ten venues: two missing pass, three do not."""
    row = finding(against(venues(now), venues(10, BEFORE)), "venue_count_drop")
    assert (row["passed"], row["observed"], row["severity"]) == (passed, drop, "warn")


@pytest.mark.parametrize(
    ("now", "passed"),
    [("150", True), ("150.000001", False), ("50", True), ("49.999999", False), ("100", True)],
)
def test_volume_may_swing_by_half_and_not_more(now: str, passed: bool) -> None:
    """Against 100 shares in a week of as many trading days."""
    row = finding(against(shares(now, WEEK), shares("100", BEFORE)), "volume_swing")
    assert (row["passed"], row["severity"]) == (passed, "warn")


@pytest.mark.parametrize(("now", "passed"), [("41", True), ("39", False), ("120", True), ("121", False)])
def test_a_holiday_week_is_judged_by_the_trading_day(now: str, passed: bool) -> None:
    """By hand: 2026-09-11 has four trading days (Labor Day), the week before five. 100 shares are 20 a day;
    half of that in four days is 40, and one and a half times is 120.
    """
    holiday = dt.date(2026, 9, 11)
    judged = against(shares(now, holiday), shares("100", dt.date(2026, 9, 4)), holiday)
    assert finding(judged, "volume_swing")["passed"] is passed


def test_a_week_after_one_without_volume_has_nothing_to_swing_from() -> None:
    """Guards against a division by zero."""
    row = finding(against(shares("1", WEEK), shares("0", BEFORE)), "volume_swing")
    assert row["passed"]
    assert f"nothing was traded in the week ending {BEFORE}" in row["detail"]


def test_half_a_week_is_compared_with_the_same_half_of_the_week_before() -> None:
    """ATSs are a part of all volume: against the whole they would always look like a collapse."""
    before = pl.concat([shares("100", BEFORE), volume([("A", str(n), "100", 1) for n in range(10)], BEFORE)])
    same = half(ATS, shares("100", WEEK), previous=before)
    assert finding(same, "volume_swing")["observed"] == 0.0
    assert finding(same, "venue_count_drop")["observed"] == 0.0
    assert not finding(half(ATS, shares("10", WEEK), previous=before), "volume_swing")["passed"]


def test_a_part_of_a_week_is_not_compared() -> None:
    """One symbol's records are no market."""
    judged = part(shares("1", WEEK), previous=venues(10, BEFORE))
    for check in ("venue_count_drop", "volume_swing"):
        assert finding(judged, check)["passed"]
        assert "only a part" in finding(judged, check)["detail"]
    assert graded(judged) == ("D", 60)


# --- grades --------------------------------------------------------------------------------------------


def findings(*names: str, severity: str = "error") -> pl.DataFrame:
    """Failed findings of these names."""
    return pl.DataFrame(
        [(WEEK, T1.name, name, False, severity, 1.0, 0.0, "why") for name in names], schema=FINDING, orient="row"
    )


@pytest.mark.parametrize(
    ("errors", "warnings", "letter", "score"),
    [
        ((), (), "A", 100),
        ((), ("venue_count_drop",), "B", 90),
        ((), ("venue_count_drop", "volume_swing"), "C", 80),
        (("rejection_rate",), (), "C", 80),
        (("rejection_rate",), ("volume_swing",), "C", 70),
        (("rejection_rate",), ("volume_swing", "venue_count_drop"), "D", 60),
        (("rejection_rate", "week_in_calendar"), ("volume_swing",), "D", 50),
        (("rejection_rate", "week_in_calendar"), ("volume_swing", "venue_count_drop"), "F", 40),
        (("complete",), (), "D", 60),
        # What is merely unusual makes no F of a part.
        (("complete",), ("volume_swing", "venue_count_drop"), "D", 50),
        (("complete", "rejection_rate"), (), "F", 40),
        (("rows_reconciled",), (), "F", 0),
        (("unique_keys",), (), "F", 0),
        (("plausible_values",), (), "F", 0),
        (("known_tier",), (), "F", 0),
        (("matches_finra_totals",), (), "F", 0),
        (("complete",), ("matches_finra_totals",), "D", 60),
    ],
)
def test_grades_are_what_the_failed_findings_cost(
    errors: tuple[str, ...], warnings: tuple[str, ...], letter: str, score: int
) -> None:
    """F stops everything downstream: it must be earned, and must not be missed."""
    right = judge_volume(evidence()).filter(~pl.col("check_name").is_in([*errors, *warnings]))
    judged = pl.concat([right, findings(*errors), findings(*warnings, severity="warn")])
    (row,) = grade(judged).to_dicts()
    assert (row["grade"], row["score"]) == (letter, score)
    assert [shown["check_name"] for shown in json.loads(row["findings"])] == [*errors, *warnings]


def test_tiers_are_graded_by_themselves_and_the_week_is_its_worst_tier() -> None:
    """A bad tier must not hide behind two good ones."""
    other = findings("unique_keys").with_columns(pl.lit(OTCE.name).alias("tier"))
    made = grade(pl.concat([judge_volume(evidence()), other]))
    assert made.select("tier", "grade").rows() == [(T1.name, "A"), (OTCE.name, "F")]
    assert worst(made["grade"].to_list()) == "F"
    assert worst([]) is None


def test_every_check_has_a_price_or_is_fatal() -> None:
    """A new check that costs nothing would fail unnoticed."""
    assert {*GRADED, GRADE} == set(checks_of("venue_volume"))
    assert not [check.name for check in GRADED if check.fatal and check.cost]


def test_a_check_is_declared_once() -> None:
    """Two checks of one name of an asset would overwrite each other's results."""
    names = [(check.asset, check.name) for check in CHECKS]
    assert len(names) == len(set(names))


# --- shares and indices --------------------------------------------------------------------------------


def one(found: pl.DataFrame, check: str) -> dict[str, Any]:
    """The one finding of a check."""
    (row,) = found.filter(pl.col("check_name") == check).to_dicts()
    return row


def test_shares_that_dont_add_up_are_found() -> None:
    """By hand: 60 + 39.99 is no hundred; three thirds of 33.333333 are one, but for their rounding."""
    thirds = venue_share(volume([("A", venue, "1", 1) for venue in ("UBSA", "INCR", "7897")]))
    assert one(judge_shares(thirds, None), "shares_sum_to_100")["passed"]
    rows = venue_share(volume([("A", "UBSA", "60", 1), ("A", "INCR", "40", 1)]))
    wrong = pl.when(pl.col("venue_id") == "INCR").then(Decimal("39.99")).otherwise("market_share_pct")
    row = one(
        judge_shares(rows.with_columns(wrong.cast(VENUE_SHARE["market_share_pct"]).alias("market_share_pct")), None),
        "shares_sum_to_100",
    )
    assert (row["passed"], row["observed"]) == (False, 99.99)


def test_a_tier_in_which_nothing_was_traded_has_no_shares_to_add_up() -> None:
    """Guards against a failure over nothing."""
    assert one(judge_shares(venue_share(shares("0", WEEK)), None), "shares_sum_to_100")["passed"]


def with_values(*values: int | None) -> pl.DataFrame:
    """VENUE_VOLUME of one share at each of some ATSs, with these values."""
    rows = [
        volume_row("A", f"ATS{n}", 1, 1) | {"notional": None if value is None else Decimal(value)}
        for n, value in enumerate(values)
    ]
    return pl.DataFrame(rows, schema=VENUE_VOLUME)


def test_shares_of_the_value_that_dont_add_up_are_found() -> None:
    """By hand: 60 + 39.99 is no hundred. A share of a value that a venue lacks is wrong, whatever it is."""
    name = "notional_share_pct"
    made = venue_share(with_values(60, 40))
    assert one(judge_shares(made, None), "notional_shares_sum_to_100")["observed"] == 100.0
    wrong = pl.when(pl.col("venue_id") == "ATS1").then(Decimal("39.99")).otherwise(name).cast(VENUE_SHARE[name])
    row = one(judge_shares(made.with_columns(wrong.alias(name)), None), "notional_shares_sum_to_100")
    assert (row["passed"], row["observed"]) == (False, 99.99)
    without = venue_share(with_values(60, None))
    assert one(judge_shares(without, None), "notional_shares_sum_to_100")["passed"]
    stated = without.with_columns(pl.lit(Decimal(50)).cast(VENUE_SHARE[name]).alias(name))
    assert not one(judge_shares(stated, None), "notional_shares_sum_to_100")["passed"]


@pytest.mark.parametrize(
    ("column", "wrong"),
    [
        ("notional_hhi", "10000.000001"),
        ("notional_hhi", "8099.99"),  # below 90^2
        ("notional_hhi", None),
        ("notional_hhi_lower", "8200.000001"),
        ("notional_hhi_lower", None),
        ("total_notional", None),  # an index of no value
    ],
)
def test_an_index_of_the_value_outside_its_bounds_is_found(column: str, wrong: str | None) -> None:
    """By hand, two ATSs of 90 and 10 dollars have 8,200."""
    made = market_concentration(with_values(90, 10))
    assert made["notional_hhi"].to_list() == [Decimal(8200)] * 2
    assert one(judge_rows("market_concentration", made), "hhi_within_bounds")["passed"]
    value = pl.lit(Decimal(wrong) if wrong else None).cast(made.schema[column]).alias(column)
    row = one(judge_rows("market_concentration", made.with_columns(value)), "hhi_within_bounds")
    assert (row["passed"], row["observed"]) == (False, 2.0)  # of ATSs, and of all


@pytest.mark.parametrize(
    ("now", "passed", "shift"), [("60", True, 10.0), ("60.0001", False, 10.0001), ("39", False, -11.0)]
)
def test_a_venues_share_may_move_by_ten_points_and_not_more(now: str, passed: bool, shift: float) -> None:
    """By hand: UBSA had 50 of 100 shares, INCR and JPMX 25 each; JPMX takes what UBSA and INCR leave."""
    before = venue_share(volume([("A", "UBSA", "50", 1), ("A", "INCR", "25", 1), ("A", "JPMX", "25", 1)], BEFORE))
    rest = (Decimal(100) - Decimal(now)) / 2
    after = venue_share(volume([("A", "UBSA", now, 1), ("A", "INCR", str(rest), 1), ("A", "JPMX", str(rest), 1)]))
    row = one(judge_shares(after, before), "venue_share_shift")
    assert (row["passed"], row["observed"], row["severity"]) == (passed, shift, "warn")
    assert row["detail"].startswith("UBSA moved most: 50.00 %")


def test_a_venue_that_vanishes_or_appears_has_moved_by_all_of_its_share() -> None:
    """A join that keeps only venues of both weeks would see nothing."""
    before = venue_share(volume([("A", "UBSA", "88", 1), ("A", "INCR", "12", 1)], BEFORE))
    gone = one(judge_shares(venue_share(shares("100", WEEK)), before), "venue_share_shift")
    assert gone["passed"] is False
    new = one(
        judge_shares(venue_share(volume([("A", "UBSA", "88", 1), ("A", "JPMX", "12", 1)])), before), "venue_share_shift"
    )
    assert (new["passed"], abs(new["observed"])) == (False, 12.0)


def test_without_an_earlier_week_no_share_has_moved() -> None:
    """The earlier week of another tier is none either."""
    before = venue_share(volume([("A", "INCR", "1", 1)], BEFORE, OTCE.name))
    for previous in (None, before):
        row = one(judge_shares(venue_share(shares("1", WEEK)), previous), "venue_share_shift")
        assert row["passed"]
        assert "no earlier week" in row["detail"]


@pytest.mark.parametrize("wrong", ["10000.000001", "4999.99", "8099.99", None])
def test_an_index_outside_its_bounds_is_found(wrong: str | None) -> None:
    """By hand, two venues of 90 and 10: at least 10,000 / 2, at least 90^2, at most 10,000; and not unknown."""
    made = market_concentration(volume([("A", "UBSA", "90", 1), ("A", "INCR", "10", 1)]))
    assert one(judge_rows("market_concentration", made), "hhi_within_bounds")["passed"]
    value = pl.lit(Decimal(wrong) if wrong else None).cast(made.schema["hhi"])
    row = one(judge_rows("market_concentration", made.with_columns(value.alias("hhi"))), "hhi_within_bounds")
    assert (row["passed"], row["observed"]) == (False, 2.0)  # of ATSs, and of all


@pytest.mark.parametrize(
    ("wrong", "found"),
    [("8200.000001", 2.0), ("8199.999999", 1.0), ("8099.99", 2.0), (None, 2.0)],
)
def test_a_lower_bound_of_the_index_outside_its_limits_is_found(wrong: str | None, found: float) -> None:
    """By hand, two ATSs of 90 and 10 have 8,200: at most that, equal to it for ATSs alone, and at least 90^2."""
    made = market_concentration(volume([("A", "UBSA", "90", 1), ("A", "INCR", "10", 1)]))
    assert one(judge_rows("market_concentration", made), "hhi_within_bounds")["passed"]
    value = pl.lit(Decimal(wrong) if wrong else None).cast(made.schema["hhi_lower"]).alias("hhi_lower")
    row = one(judge_rows("market_concentration", made.with_columns(value)), "hhi_within_bounds")
    assert (row["passed"], row["observed"]) == (False, found)


def test_weeks_that_were_computed_before_there_was_a_lower_bound_pass() -> None:
    made = market_concentration(volume([("A", "UBSA", "90", 1), ("A", "INCR", "10", 1)]))
    new = ("total_trades", "hhi_lower", "concentration_level_lower", "effective_venues_upper")
    before = made.with_columns(pl.lit(None).cast(made.schema[name]).alias(name) for name in new)
    assert one(judge_rows("market_concentration", before), "hhi_within_bounds")["passed"]


@settings(max_examples=30, deadline=None)
@given(rows=volumes())
def test_what_is_computed_passes_its_own_checks(rows: pl.DataFrame) -> None:
    """Shares and indices of any rows keep the bounds by which they are judged: no false alarms from rounding."""
    assert judge_shares(venue_share(rows), None)["passed"].all()
    assert judge_rows("symbol_concentration", symbol_concentration(rows))["passed"].all()
    assert judge_rows("market_concentration", market_concentration(rows))["passed"].all()
    assert judge_rows("role_share", role_share(venue_share(rows)))["passed"].all()


def test_evidence_is_judged_and_not_changed() -> None:
    """The frames are the caller's."""
    judged = evidence(previous=venues(3, BEFORE))
    before = {f.name: getattr(judged, f.name) for f in dataclasses.fields(judged)}
    copies = {name: value.clone() for name, value in before.items() if isinstance(value, pl.DataFrame)}
    judge_volume(judged)
    assert all(before[name].equals(copy) for name, copy in copies.items())


# --- venues that lose their identity -------------------------------------------------------------------


def identified(*venues: tuple[str, str, str], week: dt.date = WEEK, of_api: bool = True) -> pl.DataFrame:
    """One row a venue: (kind, venue_id, name)."""
    rows = [
        volume_row("A", venue_id, 10, 1, week)
        | {"venue_kind": kind, "venue_id": venue_id, "venue_name": name}
        | {"initial_published_date": week if of_api else None}
        for kind, venue_id, name in venues
    ]
    return pl.DataFrame(rows, schema=VENUE_VOLUME)


POOL, OTHER, FIRM = (ATS, "PPEX", "PPEX POOL"), (ATS, "UBSA", "UBSA UBS ATS"), (NON_ATS, "79", "JUNIPER")
KNOWN = identified(POOL, OTHER, FIRM, (DE_MINIMIS, "DE_MINIMIS", "De Minimis Firms"), week=BEFORE)
NO_POOL_ID, NO_OTHER_ID = (ATS, "name:PPEX POOL", "PPEX POOL"), (ATS, "name:UBSA UBS ATS", "UBSA UBS ATS")


@pytest.mark.parametrize(
    ("now", "count", "said"),
    [
        ((NO_POOL_ID, NO_OTHER_ID, FIRM), 2.0, "none of 2 ATSs has an MPID"),
        ((NO_POOL_ID, OTHER, FIRM), 1.0, "PPEX POOL (PPEX)"),
        ((POOL, NO_POOL_ID, OTHER), 1.0, "PPEX POOL (PPEX)"),
        (((NON_ATS, "name:PPEX POOL", "PPEX POOL"), OTHER, FIRM), 1.0, "PPEX POOL (PPEX)"),
        (((NON_ATS, "555", "PPEX POOL"), OTHER), 1.0, "no longer ATSs: PPEX POOL (PPEX)"),
        ((POOL, OTHER, (NON_ATS, "name:JUNIPER", "JUNIPER"), (NON_ATS, "7", "X")), 1.0, "JUNIPER (79)"),
    ],
    ids=["all MPIDs", "one MPID", "in some rows", "taken for a nameless firm", "taken for a firm", "a CRD number"],
)
def test_a_venue_that_loses_its_number_fails_the_week(
    now: tuple[tuple[str, str, str], ...], count: float, said: str
) -> None:
    """With an empty MPID column every ATS was identified by name, at grade A."""
    row = finding(against(identified(*now), KNOWN), "venue_identity")
    assert (row["passed"], row["severity"], row["observed"]) == (False, Severity.ERROR, count)
    assert said in row["detail"]


@pytest.mark.parametrize(
    ("now", "of_api"),
    [
        ((POOL, OTHER, FIRM), True),
        (((ATS, "PPEY", "PPEX POOL"), OTHER), True),
        ((POOL, (ATS, "name:NEW POOL", "NEW POOL")), True),
        ((POOL, OTHER, (NON_ATS, "name:JUNIPER", "JUNIPER")), False),
        ((POOL, OTHER, (NON_ATS, "name:NEW FIRM", "NEW FIRM")), True),
        ((FIRM,), True),
    ],
    ids=["the same", "a new MPID", "a new ATS without", "a file without CRD numbers", "a new firm without", "no ATS"],
)
def test_a_venue_that_keeps_or_changes_its_number_passes(now: tuple[tuple[str, str, str], ...], of_api: bool) -> None:
    """MPIDs change, and download files have no CRD numbers."""
    assert finding(against(identified(*now, of_api=of_api), KNOWN), "venue_identity")["passed"]


def test_a_record_of_the_api_among_the_rows_of_a_file_is_no_lost_number_of_the_others() -> None:
    """A partial capture with one firm graded the week F: all others of the file were told to have lost theirs."""
    known = identified(FIRM, (NON_ATS, "149823", "VIRTU"))
    now = pl.concat([identified(FIRM, of_api=True), identified((NON_ATS, "name:VIRTU", "VIRTU"), of_api=False)])
    assert finding(against(now, known), "venue_identity")["passed"]


def test_atss_without_any_mpid_fail_without_a_week_before_too() -> None:
    for before in (None, KNOWN.clear()):
        assert not finding(against(identified(NO_POOL_ID), before), "venue_identity")["passed"]
        assert finding(against(identified(POOL, NO_OTHER_ID), before), "venue_identity")["passed"]


def test_a_week_whose_venues_have_lost_their_numbers_is_graded_f() -> None:
    grades = grade(judge_volume(against(identified(NO_POOL_ID, NO_OTHER_ID, FIRM), KNOWN)))
    assert grades["grade"].to_list() == ["F"]


def test_shares_of_roles_that_dont_add_up_are_found() -> None:
    """By hand: two ATSs with 60 and 40 dollars and a share each. One of the four sums is wrong at a time."""
    made = role_share(venue_share(with_values(60, 40)), (Firm("ATS0", "A", FirmRole.BANK_DESK, "x", WEEK),))
    assert one(judge_rows("role_share", made), "role_shares_sum_to_100")["passed"]
    for name in ("market_share_pct", "kind_share_pct", "notional_share_pct", "kind_notional_share_pct"):
        wrong = pl.when(pl.col("role") == "bank_desk").then(Decimal("70")).otherwise(name).cast(made.schema[name])
        row = one(judge_rows("role_share", made.with_columns(wrong.alias(name))), "role_shares_sum_to_100")
        assert not row["passed"]
        assert row["detail"].startswith(name)
    unpriced = role_share(venue_share(with_values(60, None)))
    assert one(judge_rows("role_share", unpriced), "role_shares_sum_to_100")["passed"]
