"""Turns FINRA's records of one (week, tier) into venue volume and FINRA's own totals.

This module decides which rows are accepted, how a venue is identified, and why a row is rejected. Reading bytes is in
``parsing``, merging several captures of one week in ``revisions``, and judging the result in ``quality``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from otc_assets.domain.enums import TotalOf, VenueKind
from otc_assets.domain.exact import per_trade
from otc_assets.domain.parsing import Parsed, panics_refused
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.schema import (
    DE_MINIMIS_NAME,
    DE_MINIMIS_VENUE_ID,
    FIRM_ROW_CODES,
    FIRM_TOTAL_CODES,
    MARKET_TOTAL_CODES,
    PUBLISHED_TOTAL,
    RECORD,
    REJECTED,
    SUMMARY_CODES,
    SYMBOL_TOTAL_CODES,
    VENUE_VOLUME,
)
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIERS, Tier, week_start_of

#: Raise it when the same archived bytes would give other venue volume, other totals or other rejected rows: after a
#: changed rule here, in ``parsing``, ``values`` or ``revisions``. Weeks that were computed with another version are
#: stale and are recomputed. A changed message, or a faster way to the same rows, is no reason to raise it.
NORMALIZER_VERSION = "1"

#: Larger values are implausible: the whole US market trades about 10^11 shares and 10^13 dollars per week.
MOST_SHARES = 10**13
MOST_TRADES = 10**10
MOST_DOLLARS = 10**15


#: Why a row of the 17 weeks that FINRA published twice is rejected: it duplicates an accepted row. The text is stored
#: with the row and searched for: do not change it.
PUBLISHED_TWICE = "published a second time under tierIdentifier NMS: the row under T1 is the one that counts"


@dataclass(frozen=True)
class Normalized:
    """The rows of one (week, tier).

    Attributes:
        volume: VENUE_VOLUME.
        totals: PUBLISHED_TOTAL.
        rejected: REJECTED, the rows that parsing rejected included.
        initial_published_date, last_update_date: the oldest and the newest date of its rows.
    """

    volume: pl.DataFrame
    totals: pl.DataFrame
    rejected: pl.DataFrame
    initial_published_date: dt.date | None
    last_update_date: dt.date | None

    def last_update_of(self, kinds: Iterable[str]) -> dt.date | None:
        """The newest ``lastUpdateDate`` of the accepted rows of these venue kinds; None where they have none."""
        newest = pl.col("last_update_date").filter(pl.col("venue_kind").is_in(list(kinds))).max()
        dates = [frame.select(newest).item() for frame in (self.volume, self.totals)]
        return max((date for date in dates if date is not None), default=None)

    @property
    def accepted(self) -> int:
        """The number of rows that are venue volume or totals."""
        return self.volume.height + self.totals.height

    @property
    def received(self) -> int:
        """The number of rows that were received: accepted and rejected."""
        return self.accepted + self.rejected.height


_WEEK_ENDING = (pl.col("week_start") + pl.duration(days=4)).alias("week_ending")
_NAMES = {tier.id: tier.name for tier in TIERS}
#: A row's tier: by its description, which the weeks that were published twice have under `NMS` too, else by its
#: identifier.
_TIER_NAME = (
    pl.when(pl.col("tier_name").is_in([tier.name for tier in TIERS]))
    .then(pl.col("tier_name"))
    .otherwise(pl.col("tier_id").replace_strict(_NAMES, default=None, return_dtype=pl.String))
)


def split(parsed: Parsed) -> dict[tuple[dt.date, Tier], Parsed]:
    """Splits a file of records that spans weeks or tiers by (week_ending, tier), oldest first.

    Rows without a week or tier, and rows that could not be read, are in the first part, where they are rejected: every
    row is counted.

    Raises:
        UnreadableFile: no row has a week and a tier.
    """
    with panics_refused(parsed.name):
        return _split(parsed)


def _split(parsed: Parsed) -> dict[tuple[dt.date, Tier], Parsed]:
    whose = parsed.records.select(
        "line",
        pl.when(pl.col("week_start").dt.weekday() == 1).then(_WEEK_ENDING).alias("week_ending"),
        _TIER_NAME.alias("tier"),
    )
    found = whose.drop_nulls().select("week_ending", "tier").unique()
    by_name = {tier.name: tier for tier in TIERS}
    order = {tier.name: number for number, tier in enumerate(TIERS)}
    groups = sorted(found.rows(), key=lambda group: (group[0], order[group[1]]))
    if not groups:
        raise UnreadableFile(
            parsed.name,
            "none of its rows has both a Monday as weekStartDate and one of FINRA's tiers",
            "Use a download file, or records of the Query API with these fields",
        )
    first_week, first_tier = groups[0]
    nowhere = pl.any_horizontal(pl.col("_week", "_tier").is_null())
    placed = parsed.records.join(
        whose.rename({"week_ending": "_week", "tier": "_tier"}), on="line", maintain_order="left"
    ).with_columns(
        pl.when(nowhere).then(pl.lit(first_week)).otherwise("_week").alias("_week"),
        pl.when(nowhere).then(pl.lit(first_tier)).otherwise("_tier").alias("_tier"),
    )
    parts: dict[tuple[dt.date, Tier], Parsed] = {}
    frames = placed.partition_by("_week", "_tier", as_dict=True, maintain_order=True)
    for group in groups:
        records = frames[group].select(list(RECORD))
        rejected = parsed.rejected if group == groups[0] else REJECTED.to_frame()
        lines = pl.concat([records["line"], rejected["line"]])

        @panics_refused(parsed.name)
        def raw(lines: pl.Series = lines) -> pl.DataFrame:
            return parsed.raw.filter(pl.col("line").is_in(lines.implode()))

        week, tier = group
        parts[week, by_name[tier]] = Parsed(
            parsed.name, parsed.layout, parsed.columns, records, rejected, parsed.truncated, raw, parsed.header
        )
    return parts


def normalize(parsed: Parsed, *, week_ending: dt.date, tier: Tier, summary_type: str | None = None) -> Normalized:
    """The venue volume and FINRA's own totals of one publication.

    Args:
        parsed: its rows; those of another week or tier are rejected.
        week_ending: the publication's week, a Friday.
        tier: the publication's tier.
        summary_type: FINRA's ``summaryTypeCode`` of all rows, for a file that has no such column.

    Raises:
        UnreadableFile: neither the rows nor ``summary_type`` say which kind of rows they are.
    """
    with panics_refused(parsed.name):
        return _normalize(parsed, week_ending, tier, summary_type)


def _normalize(parsed: Parsed, week_ending: dt.date, tier: Tier, summary_type: str | None) -> Normalized:
    records = _with_summary_type(parsed, summary_type)
    reasons = _reasons(parsed, week_ending, tier)
    # All rows are tested; the reason is written for the rejected ones only. A lazy frame computes once what several
    # conditions have in common.
    any_condition = pl.any_horizontal(condition for condition, _ in reasons).fill_null(False)
    is_bad = records.lazy().select(any_condition).collect().to_series()
    # Polars 2.1 panics in `pl.format` on a frame of several chunks, which a filter of a large frame leaves.
    bad = records.filter(is_bad).rechunk()
    bad = bad.select(
        "line", pl.coalesce(pl.when(condition).then(reason) for condition, reason in reasons).alias("reason")
    )
    good = records.filter(~is_bad) if bad.height else records
    is_firm_row = pl.col("summary_type").is_in(list(FIRM_ROW_CODES)) | pl.col("summary_type").is_null()
    # Lazily, so that the filters do not copy unused columns.
    # Their columns have different numbers of chunks. Otherwise, each operation on several of them would merge those.
    volume, totals = (
        frame.rechunk()
        for frame in pl.collect_all(
            [
                _volume(good.lazy().filter(is_firm_row), week_ending, tier),
                _totals(good.lazy().filter(~is_firm_row), week_ending, tier),
            ]
        )
    )
    volume, twice = _without_duplicates(volume, TABLES["venue_volume"].key)
    totals, totals_twice = _without_duplicates(totals, TABLES["published_total"].key)
    rejected = pl.concat([bad, twice, totals_twice])
    if rejected.height:
        rejected = rejected.join(parsed.raw, on="line", how="left").select(list(REJECTED))
    else:
        rejected = REJECTED.to_frame()
    return Normalized(
        volume=volume.select(list(VENUE_VOLUME)),
        totals=totals.select(list(PUBLISHED_TOTAL)),
        rejected=pl.concat([parsed.rejected, rejected]).sort("line"),
        initial_published_date=parsed.records["initial_published_date"].min(),  # type: ignore[arg-type]
        last_update_date=parsed.records["last_update_date"].max(),  # type: ignore[arg-type]
    )


def _with_summary_type(parsed: Parsed, given: str | None) -> pl.DataFrame:
    if given is not None:
        if given not in SUMMARY_CODES:
            known = ", ".join(sorted(SUMMARY_CODES))
            raise UnreadableFile("--summary-type", f"{given!r} is not a summaryTypeCode", f"FINRA's are {known}")
        return parsed.records.with_columns(pl.col("summary_type").fill_null(given))
    if "summary_type" not in parsed.columns and not {"mpid", "firm_crd", "participant_name"} & parsed.columns:
        raise UnreadableFile(
            parsed.name,
            "its rows have neither a venue nor a summaryTypeCode: they are totals of an unknown kind",
            "Give --summary-type ATS_W_SMBL for totals of ATSs by symbol, OTC_W_SMBL for those of other firms",
        )
    return parsed.records


def _text(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.String).fill_null("nothing")


def _reasons(parsed: Parsed, week_ending: dt.date, tier: Tier) -> list[tuple[pl.Expr, pl.Expr]]:
    """The conditions on which a row is rejected, each with its reason; the first one that holds is reported."""
    code = pl.col("summary_type")
    names_a_symbol = code.is_null() | code.is_in([*FIRM_ROW_CODES, *SYMBOL_TOTAL_CODES])
    names_a_venue = code.is_null() | code.is_in([*FIRM_ROW_CODES, *FIRM_TOTAL_CODES])
    no_venue = pl.all_horizontal(pl.col("mpid", "firm_crd", "participant_name").is_null())
    no_symbol = pl.col("symbol").is_null()
    tier_id, tier_name = pl.col("tier_id"), pl.col("tier_name")
    reasons = [
        (
            tier_id == "NMS",
            pl.lit(PUBLISHED_TWICE),
        ),
        (
            # One of them is enough; if both are there, they must agree.
            (tier_id != tier.id) | (tier_name != tier.name) | (tier_id.is_null() & tier_name.is_null()),
            pl.format("tier {} / {} is not " + tier.name, _text(tier_id), _text(tier_name)),
        ),
        (~code.is_in(list(SUMMARY_CODES)), pl.format("unknown summaryTypeCode {}", code)),
        (
            names_a_symbol & no_symbol & pl.col("issue_name").is_null(),
            pl.lit("missing symbol and issue name"),
        ),
        (names_a_symbol & no_symbol, pl.lit("missing symbol")),
        (
            names_a_venue & no_venue,
            pl.lit("missing venue: no MPID, CRD number or name"),
        ),
    ]
    if "summary_type" in parsed.columns:
        reasons.append((code.is_null(), pl.lit("missing summaryTypeCode: it may be a row or a total")))
    if "week_start" in parsed.columns:
        start = week_start_of(week_ending)
        reasons.append(
            (
                pl.col("week_start").ne_missing(start),
                pl.format(
                    "weekStartDate {} is not " + str(start) + ", the publication's",
                    _text(pl.col("week_start")),
                ),
            )
        )
    for column, field, most in (
        ("shares", "totalWeeklyShareQuantity", MOST_SHARES),
        ("trades", "totalWeeklyTradeCount", MOST_TRADES),
        ("notional", "totalNotionalSum", MOST_DOLLARS),
    ):
        value = pl.col(column)
        reasons.append((value < 0, pl.format(field + " is negative: {}", value)))
        reasons.append((value > most, pl.format(field + " is implausible: {} exceeds " + f"{most:,}", value)))
    return reasons


def _venue(records: pl.LazyFrame) -> pl.LazyFrame:
    """Adds ``venue_kind`` and ``venue_id``: the MPID of an ATS, the CRD number of a firm, or the De Minimis group.

    The kind is that of the ``summaryTypeCode``, as in FINRA's own totals. Without one, a venue with an MPID is an ATS.
    """
    code = pl.col("summary_type")
    has_no_number = pl.col("mpid").is_null() & pl.col("firm_crd").is_null()
    is_ats = pl.when(code.is_null()).then(pl.col("mpid").is_not_null()).otherwise(code.str.starts_with("ATS"))
    is_small = ~is_ats & has_no_number & pl.col("participant_name").is_in([DE_MINIMIS_NAME, DE_MINIMIS_NAME.upper()])
    return records.with_columns(
        pl.when(is_ats)
        .then(pl.lit(VenueKind.ATS))
        .when(is_small)
        .then(pl.lit(VenueKind.DE_MINIMIS))
        .otherwise(pl.lit(VenueKind.NON_ATS))
        .alias("venue_kind"),
        pl.coalesce(
            pl.when(is_ats).then("mpid"),
            "firm_crd",
            "mpid",
            pl.when(is_small).then(pl.lit(DE_MINIMIS_VENUE_ID)),
            # Only where it is needed: for all rows it would take as long as everything else.
            pl.lit("name:") + pl.when(has_no_number).then("participant_name"),
        ).alias("venue_id"),
    )


def _volume(records: pl.LazyFrame, week_ending: dt.date, tier: Tier) -> pl.LazyFrame:
    trades = pl.col("trades")
    return _venue(records).select(
        "line",
        pl.lit(week_ending).alias("week_ending"),
        pl.lit(tier.name).alias("tier"),
        "symbol",
        pl.col("issue_name").fill_null(""),
        pl.col("product_type").fill_null(""),
        "venue_kind",
        "venue_id",
        "mpid",
        "firm_crd",
        pl.col("participant_name").alias("venue_name"),
        pl.col("shares").alias("share_volume"),
        trades.alias("trade_count"),
        "notional",
        per_trade(pl.col("shares"), trades).alias("avg_trade_size"),
        "last_update_date",
        "initial_published_date",
    )


def _totals(records: pl.LazyFrame, week_ending: dt.date, tier: Tier) -> pl.LazyFrame:
    code = pl.col("summary_type")
    of = {
        **dict.fromkeys(SYMBOL_TOTAL_CODES, TotalOf.SYMBOL),
        **dict.fromkeys(FIRM_TOTAL_CODES, TotalOf.VENUE),
        **dict.fromkeys(MARKET_TOTAL_CODES, TotalOf.MARKET),
    }
    kind = {**SYMBOL_TOTAL_CODES, **FIRM_TOTAL_CODES, **MARKET_TOTAL_CODES}
    total_of = code.replace_strict(of, return_dtype=pl.String)
    of_symbol, of_venue = total_of == TotalOf.SYMBOL, total_of == TotalOf.VENUE
    nothing = pl.lit("")
    return _venue(records).select(
        "line",
        pl.lit(week_ending).alias("week_ending"),
        pl.lit(tier.name).alias("tier"),
        total_of.alias("total_of"),
        code.replace_strict(kind, return_dtype=pl.String).alias("venue_kind"),
        pl.when(of_symbol).then("symbol").otherwise(nothing).fill_null("").alias("symbol"),
        pl.when(of_symbol).then("issue_name").otherwise(nothing).fill_null("").alias("issue_name"),
        pl.col("product_type").fill_null(""),
        pl.when(of_venue).then("venue_id").otherwise(nothing).fill_null("").alias("venue_id"),
        pl.col("shares").alias("share_volume"),
        pl.col("trades").alias("trade_count"),
        "notional",
        "last_update_date",
    )


def _without_duplicates(rows: pl.DataFrame, key: tuple[str, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The first row of each key; and the lines of the others, with the reason."""
    reasons = pl.DataFrame(schema={"line": pl.Int64, "reason": pl.String})
    # Week and tier are the same in all rows: hashing them would take as long as everything else.
    varying = [name for name in key if name not in ("week_ending", "tier")]
    # If hashes of the short columns are unique, so are the keys; otherwise the keys are compared.
    few = rows.select(name for name in varying if name not in ("issue_name", "product_type")).hash_rows()
    if few.n_unique() == rows.height or rows.select(varying).n_unique() == rows.height:
        return rows.drop("line"), reasons
    first = pl.col("line").first().over(varying)
    same = pl.all_horizontal(
        pl.col(name).eq_missing(pl.col(name).first().over(varying)) for name in ("share_volume", "trade_count")
    )
    marked = rows.with_columns(first.alias("_first"), same.alias("_same"))
    # In one chunk: `pl.format` panics on several (see `_normalize`).
    repeated = marked.filter(pl.col("line") != pl.col("_first")).rechunk()
    twice = repeated.select(
        "line",
        pl.format(
            "duplicate of line {}, with {} values",
            "_first",
            pl.when("_same").then(pl.lit("the same")).otherwise(pl.lit("different")),
        ).alias("reason"),
    )
    return marked.filter(pl.col("line") == pl.col("_first")).drop("line", "_first", "_same"), twice
