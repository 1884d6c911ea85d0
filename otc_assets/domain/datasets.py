"""FINRA's neighbouring data sets: fields, keys, the periods that a week captures, and when FINRA publishes each period.

A data set is published period by period, for example by trading day. The partition of a week captures the
periods that end in it. The periods are in ``periods``. What is known of FINRA's fields, and from where, is in
docs/finra.md. Reading rows is in ``parsing.dataset_rows``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from otc_assets.domain.enums import Market, MonthRow, Retention
from otc_assets.domain.notes import Note
from otc_assets.domain.periods import (
    month_due,
    month_end,
    months_of,
    next_trading_day,
    posted_on,
    settlement_dates_of,
    short_interest_due,
    trading_days_of,
)
from otc_assets.domain.schema import AMOUNT
from otc_assets.domain.weeks import week_containing


@dataclass(frozen=True)
class Field:
    """A field of a data set.

    Attributes:
        name: FINRA's.
        column: the column of the table.
        kind: the type of the column.
        note: what it means.
        signed: whether its numbers may be negative.
        absent: what is stored where FINRA has no value, in a column of the key that may have none.
    """

    name: str
    column: str
    kind: Any
    note: Note
    signed: bool = False
    absent: str | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set of FINRA's group ``otcMarket``.

    Attributes:
        name: FINRA's.
        table: the table of its rows, and the name of its asset.
        description: what a row is, for the page of its asset.
        fields: those that are requested, in this order; the first is the period, FINRA's partition field.
        key: the columns that identify a row of a period.
        required: further columns without which a row is rejected.
        volume: the column of shares whose sums before and after a revision are compared, if there is one.
        periods: the periods that end in a week, by its Friday.
        due: when a period is published (New York).
        ends: the last day of a period.
        parts: by further partition fields, their values, for a data set whose periods have several partitions. Together
            they are one capture.
        retention: the retention class of its table.
    """

    name: str
    table: str
    description: str
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    required: tuple[str, ...] = ()
    volume: str | None = None
    periods: Callable[[dt.date], list[dt.date]]
    due: Callable[[dt.date], dt.datetime]
    ends: Callable[[dt.date], dt.date] = lambda day: day
    parts: tuple[Mapping[str, str], ...] = ({},)
    retention: Retention = Retention.VENUE_VOLUME

    @property
    def period(self) -> str:
        """The column of the period."""
        return self.fields[0].column

    def week_of(self, period: dt.date) -> dt.date:
        """The week in which a period ends, by its Friday."""
        return week_containing(self.ends(period))

    @property
    def schema(self) -> pl.Schema:
        """The columns of its table."""
        return pl.Schema([("week_ending", pl.Date()), *((one.column, one.kind) for one in self.fields)])

    @property
    def notes(self) -> Mapping[str, Note]:
        """What its columns mean."""
        return {one.column: one.note for one in self.fields}


REG_SHO_DAILY = Dataset(
    name="regShoDaily",
    table="short_volume_daily",
    description=(
        "FINRA's daily short sale volume: shares that a trade reporting facility reported of a symbol on a trading "
        "day, and how many of them were sold short."
        "\n\nOnly trades in regular hours that were reported for public dissemination. It has no trades of exchanges. "
        "Replaced rows are kept in `otc.short_volume_daily_revision`."
    ),
    fields=(
        Field("tradeReportDate", "trade_date", pl.Date(), Note("the trading day")),
        Field(
            "securitiesInformationProcessorSymbolIdentifier",
            "symbol",
            pl.String(),
            Note("ticker as the consolidated tapes spell it, case-sensitive: BRK/B where the weekly data has BRK.B"),
        ),
        Field("marketCode", "market_code", pl.String(), Note("FINRA's marketCode: N, Q, B or D")),
        Field(
            "reportingFacilityCode",
            "facility",
            pl.String(),
            Note("the facility: NYTRF, NQTRF (Nasdaq Carteret), NCTRF (Nasdaq Chicago) or ADF"),
        ),
        Field("shortParQuantity", "short_volume", AMOUNT, Note("shares sold short, exempt ones included", "shares")),
        Field(
            "shortExemptParQuantity",
            "short_exempt_volume",
            AMOUNT,
            Note("the part of short_volume that was marked short exempt", "shares"),
        ),
        Field("totalParQuantity", "total_volume", AMOUNT, Note("all shares reported", "shares")),
    ),
    key=("symbol", "market_code", "facility"),
    required=("short_volume", "short_exempt_volume", "total_volume"),
    volume="total_volume",
    periods=trading_days_of,
    due=posted_on,
)

SHORT_INTEREST = Dataset(
    name="consolidatedShortInterest",
    table="short_interest",
    description=(
        "FINRA's consolidated short interest: shares of a symbol that were held short on a settlement date, twice a "
        "month, and the average daily volume of the cycle that ends with it."
        "\n\nA week without a settlement date has no rows. Replaced rows are kept in `otc.short_interest_revision`."
    ),
    fields=(
        Field("settlementDate", "settlement_date", pl.Date(), Note("the settlement date of the cycle")),
        Field(
            "symbolCode",
            "symbol",
            pl.String(),
            Note("ticker without separators: BRKB where the weekly data has BRK.B, ABRPRD for ABRpD"),
        ),
        Field("issueName", "issue_name", pl.String(), Note("the issue's name; null where FINRA gives none")),
        Field("marketClassCode", "market_class", pl.String(), Note("FINRA's marketClassCode, for example NYSE or OTC")),
        Field(
            "issuerServicesGroupExchangeCode",
            "exchange_code",
            pl.String(),
            Note("FINRA's issuerServicesGroupExchangeCode"),
        ),
        Field("accountingYearMonthNumber", "accounting_date", pl.String(), Note("the settlement date as yyyyMMdd")),
        Field("currentShortPositionQuantity", "short_position", AMOUNT, Note("shares held short", "shares")),
        Field(
            "previousShortPositionQuantity",
            "previous_short_position",
            AMOUNT,
            Note("shares held short on the settlement date before", "shares"),
        ),
        Field(
            "changePreviousNumber",
            "position_change",
            AMOUNT,
            Note("short_position minus the previous one, which is not adjusted for splits", "shares"),
            signed=True,
        ),
        Field("changePercent", "change_pct", AMOUNT, Note("position_change in percent", "percent"), signed=True),
        Field(
            "averageDailyVolumeQuantity",
            "avg_daily_volume",
            AMOUNT,
            Note("average daily volume of the cycle, all markets; without non-media trades", "shares per trading day"),
        ),
        Field("daysToCoverQuantity", "days_to_cover", AMOUNT, Note("short_position / avg_daily_volume", "days")),
        Field("stockSplitFlag", "stock_split_flag", pl.String(), Note("S if the cycle has a split, else null")),
        Field("revisionFlag", "revision_flag", pl.String(), Note("R if the position of the cycle before was revised")),
    ),
    key=("symbol",),
    required=("short_position", "avg_daily_volume"),
    volume="short_position",
    periods=settlement_dates_of,
    due=short_interest_due,
)

THRESHOLD_LIST = Dataset(
    name="thresholdList",
    table="threshold_security",
    description=(
        "FINRA's threshold list: over-the-counter equity securities with persistent fails to deliver, by trading day."
        "\n\nIt has no securities that are listed on an exchange: their exchanges publish lists of their own. Replaced "
        "rows are kept in `otc.threshold_security_revision`."
    ),
    fields=(
        Field("tradeDate", "trade_date", pl.Date(), Note("the trading day of the list")),
        Field("issueSymbolIdentifier", "symbol", pl.String(), Note("ticker, case-sensitive")),
        Field("issueName", "issue_name", pl.String(), Note("the issue's name; null where FINRA gives none")),
        Field("marketClassCode", "market_class", pl.String(), Note("FINRA's marketClassCode")),
        Field("marketCategoryDescription", "market_category", pl.String(), Note("FINRA's marketCategoryDescription")),
        Field("thresholdListFlag", "threshold_flag", pl.String(), Note("R: Regulation SHO; NR: FINRA Rule 4320")),
        Field("regShoThresholdFlag", "reg_sho_flag", pl.String(), Note("Y: threshold security under Regulation SHO")),
        Field("rule4320Flag", "rule_4320_flag", pl.String(), Note("Y: threshold security under FINRA Rule 4320")),
    ),
    key=("symbol",),
    periods=trading_days_of,
    due=lambda day: posted_on(next_trading_day(day)),
)


def _blocks(name: str, table: str, prefix: str, venues: tuple[Field, ...], who: str) -> Dataset:
    """Both data sets of blocks have the same fields, with another prefix, and other fields for the venue."""
    return Dataset(
        name=name,
        table=table,
        description=(
            f"FINRA's blocks of a month: how many trades and shares of each {who} were of block size, by category."
            "\n\nStocks of both NMS tiers together; FINRA publishes no blocks by symbol. The categories overlap: their "
            f"volumes must not be added. Replaced rows are kept in `otc.{table}_revision`."
        ),
        fields=(
            Field("monthStartDate", "month_start", pl.Date(), Note("the first day of the month")),
            *venues,
            Field(
                "summaryTypeCode",
                "category",
                pl.String(),
                Note("10K: 10,000 shares or more; 200K: $200,000 or more; 10K-200K: both; 2K, 100K, 2K-100K: smaller"),
            ),
            Field("summaryTypeDescription", "category_name", pl.String(), Note("FINRA's description of the category")),
            Field(
                "totalTradeCount", "total_trades", pl.Int64(), Note("all trades of the month, blocks or not", "trades")
            ),
            Field(
                "totalShareQuantity", "total_volume", AMOUNT, Note("all shares of the month, blocks or not", "shares")
            ),
            Field(f"{prefix}BlockCount", "block_trades", pl.Int64(), Note("trades in the category", "trades")),
            Field(f"{prefix}BlockQuantity", "block_volume", AMOUNT, Note("shares of these trades", "shares")),
            Field("lastUpdateDate", "last_update_date", pl.Date(), Note("when FINRA last updated the row")),
            Field(
                "initialPublishedDate", "initial_published_date", pl.Date(), Note("when FINRA first published the row")
            ),
        ),
        key=(venues[0].column, "category"),
        required=("total_trades", "total_volume", "block_trades", "block_volume"),
        volume="block_volume",
        periods=months_of,
        due=month_due,
        ends=month_end,
    )


ATS_BLOCKS = _blocks(
    "blocksSummary",
    "ats_block",
    "ATS",
    (
        Field("MPID", "mpid", pl.String(), Note("market participant identifier of the ATS")),
        Field("marketParticipantName", "venue_name", pl.String(), Note("FINRA's marketParticipantName")),
    ),
    "ATS",
)
OTC_BLOCKS = _blocks(
    "otcBlocksSummary",
    "otc_block",
    "OTC",
    (Field("crdFirmName", "firm_name", pl.String(), Note("the firm's name; FINRA gives no number")),),
    "firm outside ATSs",
)

MONTHLY_SUMMARY = Dataset(
    name="monthlySummary",
    table="otc_month",
    description=(
        "FINRA's trading outside ATSs by month: each firm's shares and trades of a symbol, and FINRA's own totals by "
        "symbol, by firm, and in all."
        "\n\nThe kinds of rows are in `summary_type`: a sum over all rows counts each trade up to four times. Replaced "
        "rows are kept in `otc.otc_month_revision`."
    ),
    fields=(
        Field("monthStartDate", "month_start", pl.Date(), Note("the first day of the month")),
        Field("tierIdentifier", "market", pl.String(), Note("NMS (tiers 1 and 2 together) or OTCE (OTC equities)")),
        Field(
            "summaryTypeCode",
            "summary_type",
            pl.String(),
            Note(
                f"{MonthRow.SYMBOL_FIRM} a firm's month in a symbol; FINRA's totals: {MonthRow.SYMBOL} by symbol, "
                f"{MonthRow.FIRM} by firm, {MonthRow.TOTAL} in all"
            ),
        ),
        Field(
            "issueSymbolIdentifier",
            "symbol",
            pl.String(),
            Note("ticker, case-sensitive; empty in totals of firms"),
            absent="",
        ),
        Field("issueName", "issue_name", pl.String(), Note("the issue's name; empty in totals of firms"), absent=""),
        Field(
            "firmCRDNumber",
            "firm_crd",
            pl.String(),
            Note("CRD number of the firm; empty or 0 for the De Minimis group, empty in totals of symbols"),
            absent="",
        ),
        Field("marketParticipantName", "firm_name", pl.String(), Note("the firm's name; null in totals of symbols")),
        Field("productTypeCode", "product_type", pl.String(), Note("FINRA's productTypeCode"), absent=""),
        Field("totalMonthlyTradeCount", "total_trades", pl.Int64(), Note("trades outside ATSs", "trades")),
        Field("totalMonthlyShareQuantity", "total_volume", AMOUNT, Note("shares outside ATSs", "shares")),
        Field("totalNotionalSum", "total_notional", AMOUNT, Note("their value; null where FINRA has none", "dollars")),
        Field("lastUpdateDate", "last_update_date", pl.Date(), Note("when FINRA last updated the row")),
        Field("initialPublishedDate", "initial_published_date", pl.Date(), Note("when FINRA first published the row")),
    ),
    key=("market", "summary_type", "symbol", "issue_name", "firm_crd", "product_type"),
    required=("total_trades", "total_volume"),
    volume="total_volume",
    periods=months_of,
    due=month_due,
    ends=month_end,
    parts=tuple({"tierIdentifier": market.value} for market in Market),
)

#: Every data set, in the order in which they are captured.
DATASETS: tuple[Dataset, ...] = (REG_SHO_DAILY, SHORT_INTEREST, THRESHOLD_LIST, ATS_BLOCKS, OTC_BLOCKS, MONTHLY_SUMMARY)
BY_NAME = {dataset.name: dataset for dataset in DATASETS}
