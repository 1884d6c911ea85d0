"""Symbols over time: in which tier and under which issue name each trades, and what has changed.

A symbol is a ticker of a week and tier, as FINRA writes it. A ticker does not identify a security: it moves between
tiers, passes to another issuer, and a security changes its ticker. These changes are facts of the rows, found here.
Figures that compare weeks are in ``rolling``; they use ``same_issue`` too.
"""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

import polars as pl

from otc_assets.domain.enums import IssueChange, TotalOf
from otc_assets.domain.reading import Read
from otc_assets.domain.schema import SYMBOL
from otc_assets.domain.weeks import weeks_up_to

#: Words of issue names that say what kind of security it is, and not whose.
_GENERIC = frozenset(
    re.findall(
        "[A-Z]+",
        """A ACQUISITION ADR ADS AG AMERICAN AND B BENEFICIAL BV C CAPITAL CL CLASS CO COM COMMON COMPANY CORP
        CORPORATION CUMULATIVE D DEPOSITARY DEPOSITORY DTD DUE E EACH ETF ETN F FUND GROUP HOLDING HOLDINGS INC
        INCORPORATED INTEREST INTERNATIONAL INTL LIMITED LLC LP LTD NEW NOTE NOTES NV OF ONE ORD ORDINARY PAR PARTNERS
        PFD PLC PREF PREFERRED REIT REPRESENTING RIGHT RIGHTS SA SE SER SERIES SHARE SHARES SHS SPON SPONS SPONSORED
        STK STOCK THE TR TRUST UNIT UNITS UNSPON UNSPONSORED VALUE VOTING WARRANT WARRANTS WTS""",
    )
)
_WORD = re.compile(r"[^\W_]+")


@lru_cache(maxsize=4096)
def _words(name: str) -> frozenset[str]:
    """The words of an issue name that tell issuers apart; all words if none does."""
    words = frozenset(_WORD.findall(name.upper()))
    return frozenset(word for word in words - _GENERIC if not word.isdigit()) or words


def same_issue(one: str | None, other: str | None) -> bool:
    """Whether two issue names can be of one issuer: they have a word in common that is not generic, or one is missing.

    FINRA gives no identifier of the issuer. Two names without a common word are another issuer's, or the old and the
    new name of an issuer that changed all of it; the rows do not tell these apart.
    """
    if not one or not other:
        return True
    return bool(_words(one) & _words(other))


def symbol(read: Read, captured: pl.DataFrame, week_ending: dt.date) -> pl.DataFrame:
    """What each symbol is called in the week, where it trades, and what has changed since it last traded.

    Args:
        read: reads SYMBOL_SUMMARY and PUBLISHED_TOTAL.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the week.

    Returns:
        SYMBOL, sorted by its key: a row for every symbol that traded in the tier in the week.

        - `previous_week` is the newest earlier week of the window in which the symbol traded in any tier, and
          `previous_tier` and `previous_issue_name` are what it had then (in this tier, if it traded there).
        - `moved_from_tier` is set in the first week in which a symbol trades in this tier, if it traded in another
          before and in this one in no earlier week of the window in which that is known.
        - `issue_change` compares the issue name with `previous_issue_name`.
        - `previous_symbol` is set where the symbol is new in the window, and exactly one other symbol with the same
          issue name traded before and does not trade in the week: the security changed its ticker. It is null until
          all tiers in which the other symbol traded in the window are captured in the week.
    """
    weeks = weeks_up_to(week_ending)
    columns = ["week_ending", "tier", "symbol", "issue_name", "issue_count", "total_volume"]
    history = read("symbol_summary", weeks, columns).join(captured, on=["week_ending", "tier"], how="semi")
    current = history.filter(pl.col("week_ending") == week_ending)
    before = history.filter(pl.col("week_ending") < week_ending)
    # The newest earlier week of each symbol; of several tiers in it, the symbol's own tier, else the largest.
    newest = before.join(
        before.group_by("symbol").agg(pl.col("week_ending").max()), on=["symbol", "week_ending"], how="semi"
    ).sort("total_volume", "tier", descending=[True, False])
    own = newest.select(
        "symbol", "tier", pl.col("week_ending").alias("_week"), pl.col("issue_name").alias("_issue_own")
    )
    largest = newest.group_by("symbol", maintain_order=True).agg(
        pl.col("week_ending").first().alias("previous_week"),
        pl.col("tier").first().alias("_tier"),
        pl.col("issue_name").first().alias("_issue"),
    )
    # Without an earlier captured week of the tier, nothing in it can be called new.
    compared = captured.filter(pl.col("week_ending") < week_ending).select("tier").unique()
    known = captured.filter(pl.col("week_ending") == week_ending).select("tier")
    seen_here = before.select("symbol", "tier", pl.lit(True).alias("_seen_here")).unique()
    rows = (
        current.join(largest, on="symbol", how="left")
        .join(own, on=["symbol", "tier"], how="left")
        .join(seen_here, on=["symbol", "tier"], how="left")
        .with_columns(
            pl.when(pl.col("_week").is_not_null()).then("tier").otherwise("_tier").alias("previous_tier"),
            pl.coalesce("_issue_own", "_issue").alias("previous_issue_name"),
        )
    )
    return (
        rows.with_columns(
            pl.when((pl.col("previous_tier") != pl.col("tier")) & pl.col("_seen_here").is_null())
            .then("previous_tier")
            .alias("moved_from_tier"),
            _issue_changes(rows).alias("issue_change"),
            (pl.col("previous_week").is_null() & pl.col("tier").is_in(compared["tier"].to_list())).alias("is_new"),
        )
        .join(
            _former_tickers(current.join(compared, on="tier", how="semi"), before, current, known),
            on=["tier", "symbol"],
            how="left",
        )
        .join(_products(read("published_total", [week_ending], _PRODUCT_COLUMNS)), on=["tier", "symbol"], how="left")
        .select(list(SYMBOL))
        .cast(dict(SYMBOL))  # type: ignore[arg-type]
        .sort("week_ending", "tier", "symbol")
    )


def _issue_changes(rows: pl.DataFrame) -> pl.Series:
    def change(now: str | None, then: str | None) -> str | None:
        if not now or not then or now == then:
            return None
        return IssueChange.RENAMED if same_issue(now, then) else IssueChange.ANOTHER_ISSUE

    names = zip(rows["issue_name"], rows["previous_issue_name"], strict=True)
    return pl.Series([change(*pair) for pair in names], dtype=pl.String)


def _former_tickers(
    compared: pl.DataFrame, before: pl.DataFrame, current: pl.DataFrame, known: pl.DataFrame
) -> pl.DataFrame:
    """(tier, symbol, previous_symbol): symbols that are new, with the issue name of exactly one that has ended.

    Args:
        compared: the rows of the week whose tiers have an earlier week.
        before: the rows of the earlier weeks of the window.
        current: the rows of the week.
        known: column `tier`: the tiers that are captured in the week.
    """
    named = pl.col("issue_name") != ""
    new = compared.filter(named).join(before, on="symbol", how="anti")
    ended = before.filter(named).join(current, on="symbol", how="anti").select("symbol", "issue_name").unique()
    # Of a symbol of a pending tier, it is not known yet whether it still trades.
    pending = before.join(known, on="tier", how="anti").select("symbol").unique()
    only_one = pl.col("symbol").n_unique().over("issue_name") == 1
    return (
        new.select("tier", "symbol", "issue_name")
        .filter(only_one)
        .join(
            ended.filter(only_one).select("issue_name", pl.col("symbol").alias("previous_symbol")),
            on="issue_name",
        )
        .join(pending, left_on="previous_symbol", right_on="symbol", how="anti")
        .select("tier", "symbol", "previous_symbol")
    )


_PRODUCT_COLUMNS = ("tier", "total_of", "symbol", "product_type")


def _products(totals: pl.DataFrame) -> pl.DataFrame:
    """(tier, symbol, product_type): FINRA gives product types in its totals by symbol alone."""
    return (
        totals.filter((pl.col("total_of") == TotalOf.SYMBOL) & (pl.col("product_type") != ""))
        .group_by("tier", "symbol")
        .agg(pl.col("product_type").unique().sort().str.join(", "))
    )
