"""Six-week figures of symbols and venues.

The window is the week and the five weeks before it. Averages are over the weeks of the window that are captured for
the tier. A captured week without trades counts as zero and is counted in `weeks_without_trades`. A week that is not
captured is not counted: `weeks_in_window` is then below six. A symbol or venue that traded in the window but not in the
week itself has a row too, with `current_volume` zero. The average trade size is the window's shares over the window's
trades, not an average of averages.

Weeks with holidays have fewer trading days, so a week is compared with its window per trading day: `trend` is 'up'
where the week's volume per trading day is more than 10 % above the window's, 'down' where it is more than 10 % below,
compared before rounding, and otherwise 'stable', also where the average is zero. `volume_vs_avg_pct` is the same
comparison in percent. `weekly_volume_vs_avg_pct` compares whole weeks, whatever their trading days. Which days are
trading days, and how half-days count, is in ``weeks``. `notional_trend` and `notional_vs_avg_pct` compare dollars in
the same way: a split changes shares and not dollars.

There is no trend where weeks are not of one thing, or too few; `trend_reason` says why: fewer than three captured weeks
in the window; a symbol that traded in another tier while not in this one; no trades while other tiers are pending,
where it may have moved; a ticker of several issues; nothing traded in the window before this week.

A symbol has a row in its tier, and one over all tiers together (`tier` ALL) once all three tiers of the week are
captured; the window of that row is the weeks of which all three are. A venue's weeks are those of its identity: see
``venues``. Jumps of the price that are near a split ratio are found by ``splits``.

The weekly figures that these are computed from are in ``summaries``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import polars as pl

from otc_assets.domain.enums import Trend, TrendReason, VenueScope
from otc_assets.domain.exact import complete_sum, millionths, per_trade, quotient
from otc_assets.domain.schema import AMOUNT, SYMBOL_ROLLING, VENUE_ROLLING, weeks_of_all_tiers
from otc_assets.domain.splits import splits
from otc_assets.domain.symbols import same_issue
from otc_assets.domain.venues import identities, place_in_chain, with_identity
from otc_assets.domain.weeks import WINDOW_WEEKS, trading_days

#: A change of more than this, in percent of the average, is a trend.
TREND_PCT = 10

#: With fewer captured weeks in the window there is no trend.
TREND_WEEKS = 3

_ALL = VenueScope.ALL


def symbol_rolling(history: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date) -> pl.DataFrame:
    """Each symbol's six-week averages in its tier and over all tiers, and the week compared with them.

    Args:
        history: SYMBOL_SUMMARY of the window's weeks.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the window's last week.

    Returns:
        SYMBOL_ROLLING, sorted by its key: a row for every symbol that traded in the window, even if it did not trade
        in the week itself. Tiers that are not captured in the week have no rows. `weeks_in_other_tier` is the number of
        weeks without trades in which the symbol traded in another tier. Over all tiers, `avg_6w_venue_count` is null
        where the symbol traded in two tiers of one week: their venues can't be added up.
    """
    history, captured = _in_window(history, captured, week_ending)
    key = ["tier", "symbol"]
    idle = _weeks_elsewhere(history, captured)
    together, whole = _over_all_tiers(history, captured)
    all_tiers = week_ending in whole["week_ending"]
    columns = ["week_ending", *key, "issue_name", "total_volume", "total_trades", "total_notional", "venue_count"]
    history = pl.concat([history.select(columns), together.select(columns)])
    is_current = pl.col("week_ending") == week_ending
    no_trades = ~is_current.any()
    reasons = (
        history.group_by(key)
        .agg(no_trades.alias("_idle"))
        .join(idle, on=key, how="left")
        .join(_with_other_issues(history, key), on=key, how="left")
        .select(
            *key,
            pl.col("weeks_in_other_tier").fill_null(0),
            "other_tier",
            pl.when(pl.col("weeks_in_other_tier") > 0)
            .then(pl.lit(TrendReason.MOVED_TIER))
            .when(pl.col("_idle") & (not all_tiers))
            .then(pl.lit(TrendReason.TIERS_PENDING))
            .when(pl.col("_several").is_not_null())
            .then(pl.lit(TrendReason.ANOTHER_ISSUE))
            .alias("_reason"),
        )
    )
    rows = _figures(
        history, pl.concat([captured, whole]), week_ending, key, {"venue_count": "avg_6w_venue_count"}, reasons
    )
    return (
        rows.join(splits(history, key), on=key, how="left")
        .select(list(SYMBOL_ROLLING))
        .cast(dict(SYMBOL_ROLLING))  # type: ignore[arg-type]
        .sort("week_ending", "tier", "symbol")
    )


def _weeks_elsewhere(history: pl.DataFrame, captured: pl.DataFrame) -> pl.DataFrame:
    """(tier, symbol): weeks without trades there in which the symbol traded in another tier, and the newest's tier."""
    # Only the few symbols that are in two tiers of the window can have traded in another tier.
    several = history.group_by("symbol").agg(pl.col("tier").n_unique()).filter(pl.col("tier") > 1)
    return (
        history.select("tier", "symbol")
        .unique()
        .join(several, on="symbol", how="semi")
        .join(captured, on="tier")
        .join(history.select("week_ending", "tier", "symbol"), on=["week_ending", "tier", "symbol"], how="anti")
        # Not in this tier, but in the rows of the week: in another tier.
        .join(history.select("week_ending", "symbol", pl.col("tier").alias("_other")), on=["week_ending", "symbol"])
        .sort("week_ending", "_other")
        .group_by("tier", "symbol", maintain_order=True)
        .agg(
            pl.col("week_ending").n_unique().cast(pl.Int64).alias("weeks_in_other_tier"),
            pl.col("_other").last().alias("other_tier"),
        )
    )


def _over_all_tiers(history: pl.DataFrame, captured: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows over all tiers of the weeks of which all three are captured, and those weeks, as tier ALL."""
    whole = weeks_of_all_tiers(captured).with_columns(pl.lit(_ALL, pl.String).alias("tier"))
    together = (
        history.join(whole, on="week_ending", how="semi")
        .sort("total_volume", "tier", descending=[True, False])
        .group_by("week_ending", "symbol", maintain_order=True)
        .agg(
            pl.col("issue_name").first(),
            pl.col("total_volume", "total_trades").sum(),
            complete_sum("total_notional"),
            pl.when(pl.len() == 1).then(pl.col("venue_count").first()).alias("venue_count"),
        )
        .with_columns(pl.lit(_ALL, pl.String).alias("tier"))
    )
    return together, whole


def _with_other_issues(history: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """``key`` of the symbols whose newest issue name has no word in common with an earlier one of the window."""
    names = (
        history.sort("week_ending")
        .group_by(key, maintain_order=True)
        .agg(pl.col("issue_name").unique(maintain_order=True), pl.col("issue_name").last().alias("_newest"))
        .filter(pl.col("issue_name").list.len() > 1)
    )
    several = [
        not all(same_issue(name, row["_newest"]) for name in row["issue_name"]) for row in names.iter_rows(named=True)
    ]
    return names.filter(pl.Series(several, dtype=pl.Boolean)).select(*key, pl.lit(True).alias("_several"))


def venue_rolling(
    history: pl.DataFrame,
    captured: pl.DataFrame,
    week_ending: dt.date,
    identity_of: Mapping[str, str] | None = None,
) -> pl.DataFrame:
    """Each venue's six-week averages in a tier, and the week compared with them.

    Args:
        history: VENUE_SHARE of the window's weeks.
        captured: columns `week_ending` and `tier`: the weeks of the window that are captured.
        week_ending: the window's last week.
        identity_of: by venue_id, the identity of venues in confirmed successions, in the order of each chain; None: of
            the reviewed file.

    Returns:
        VENUE_ROLLING, sorted by its key, with rows as in ``symbol_rolling``. The average share is the average of the
        weeks' `market_share_pct`; weeks without trades count as zero. An identity has one row per tier, under the
        venue_id that it traded under last. Where it traded under two in one week, volumes, trades and shares are added
        up, and `avg_6w_symbol_count` counts the larger number of symbols.
    """
    history, captured = _in_window(history, captured, week_ending)
    identity_of = identities() if identity_of is None else identity_of
    history = with_identity(history, identity_of)
    averages = {"symbol_count": "avg_6w_symbol_count", "market_share_pct": "avg_6w_share_pct"}
    key = ["tier", "identity_id"]
    venue_id = pl.col("venue_id")
    names = (
        history.sort("week_ending", place_in_chain(identity_of))
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("venue_kind").last(),
            venue_id.last(),
            venue_id.filter(venue_id != venue_id.last())
            .unique(maintain_order=True)
            .str.join(", ")
            .alias("predecessors"),
        )
        .with_columns(pl.col("predecessors").replace("", None))
    )
    weeks = history.group_by("week_ending", *key).agg(
        pl.col("total_volume", "total_trades", "market_share_pct").sum(),
        pl.col("symbol_count").max(),
        complete_sum("total_notional"),
    )
    return (
        _figures(weeks, captured, week_ending, key, averages)
        .join(names, on=key)
        .select(list(VENUE_ROLLING))
        .cast(dict(VENUE_ROLLING))  # type: ignore[arg-type]
        .sort("week_ending", "tier", "venue_id")
    )


def _in_window(
    history: pl.DataFrame, captured: pl.DataFrame, week_ending: dt.date
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The captured weeks of the window, and the rows of those weeks."""
    first = week_ending - dt.timedelta(weeks=WINDOW_WEEKS - 1)
    window = (
        captured.filter(pl.col("week_ending").is_between(first, week_ending)).select("week_ending", "tier").unique()
    )
    return history.join(window, on=["week_ending", "tier"], how="semi"), window


def _figures(
    history: pl.DataFrame,
    captured: pl.DataFrame,
    week_ending: dt.date,
    key: list[str],
    averages: dict[str, str],
    reasons: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The figures that symbols and venues share.

    Args:
        history: the window's rows, one per week and ``key``.
        captured: the captured weeks of the window.
        week_ending: the window's last week.
        key: the columns that identify a row.
        averages: further columns to be averaged, and the names of their averages.
        reasons: by ``key``, why there is no trend (`_reason`), where there is a reason beside those of all rows; other
            columns are kept.
    """
    is_current = pl.col("week_ending") == week_ending
    days = pl.DataFrame(
        [(week, trading_days(week)) for week in captured["week_ending"].unique()],
        schema={"week_ending": pl.Date, "_days": pl.Int64},
        orient="row",
    )
    tiers = (
        captured.join(days, on="week_ending")
        .group_by("tier")
        .agg(
            pl.len().cast(pl.Int64).alias("weeks_in_window"),
            pl.col("_days").sum().alias("window_trading_days"),
            pl.col("week_ending").min().alias("earliest_week"),
            is_current.any().alias("_has_week"),
        )
        .filter("_has_week")
    )
    sums = (
        history.group_by(key)
        .agg(
            pl.col("total_volume").sum().alias("_volume"),
            pl.col("total_trades").sum().alias("_trades"),
            complete_sum("total_notional").alias("_notional"),
            pl.col("total_volume").filter(is_current).sum().alias("current_volume"),
            pl.col("total_trades").filter(is_current).sum().alias("_current_trades"),
            pl.when(pl.col("total_notional").filter(is_current).is_not_null().all())
            .then(pl.col("total_notional").filter(is_current).sum())
            .alias("current_notional"),
            pl.len().cast(pl.Int64).alias("weeks_traded"),
            is_current.all().alias("_is_first"),
            *(complete_sum(name).cast(AMOUNT).alias(f"_{name}") for name in averages),
        )
        .join(tiers, on="tier")
    )
    sums = sums.join(reasons, on=key, how="left") if reasons is not None else sums.with_columns(_reason=None)
    current, volume = millionths(pl.col("current_volume")), millionths(pl.col("_volume"))
    weeks, window_days = (pl.col(name).cast(pl.Int128) for name in ("weeks_in_window", "window_trading_days"))
    week_days = pl.lit(trading_days(week_ending))
    # Both times the trading days of the week and of the window: their ratio is that of the volumes per day.
    daily, daily_average = current * window_days, volume * week_days.cast(pl.Int128)
    dollars, dollars_average = (
        millionths(pl.col("current_notional")) * window_days,
        millionths(pl.col("_notional")) * week_days.cast(pl.Int128),
    )
    size, size_average = current * pl.col("_trades"), volume * pl.col("_current_trades")

    def average(column: str) -> pl.Expr:
        return quotient(millionths(pl.col(column)), weeks, shift=-6)

    return sums.with_columns(
        pl.lit(week_ending).alias("week_ending"),
        week_days.cast(pl.Int64).alias("trading_days"),
        quotient(current, week_days, shift=-6).alias("current_daily_volume"),
        per_trade(pl.col("current_volume"), pl.col("_current_trades")).alias("current_trade_size"),
        average("_volume").alias("avg_6w_volume"),
        quotient(volume, window_days, shift=-6).alias("avg_6w_daily_volume"),
        quotient(pl.col("_trades"), weeks).alias("avg_6w_trades"),
        quotient(pl.col("_trades"), window_days).alias("avg_6w_daily_trades"),
        per_trade(pl.col("_volume"), pl.col("_trades")).alias("avg_6w_trade_size"),
        quotient(millionths(pl.col("_notional")), window_days, shift=-6).alias("avg_6w_daily_notional"),
        (pl.col("weeks_in_window") - pl.col("weeks_traded")).alias("weeks_without_trades"),
        *(average(f"_{name}").alias(column) for name, column in averages.items()),
        quotient(daily - daily_average, daily_average, shift=2).alias("volume_vs_avg_pct"),
        quotient(current * weeks - volume, volume, shift=2).alias("weekly_volume_vs_avg_pct"),
        quotient(size - size_average, size_average, shift=2).alias("trade_size_vs_avg_pct"),
        quotient(dollars - dollars_average, dollars_average, shift=2).alias("notional_vs_avg_pct"),
        pl.when(pl.col("weeks_in_window") < TREND_WEEKS)
        .then(pl.lit(TrendReason.TOO_FEW_WEEKS))
        .when(pl.col("_reason").is_not_null())
        .then("_reason")
        .when("_is_first")
        .then(pl.lit(TrendReason.FIRST_WEEK_IN_WINDOW))
        .alias("trend_reason"),
    ).with_columns(
        _trend(daily, daily_average).alias("trend"),
        pl.when(pl.col("notional_vs_avg_pct").is_not_null())
        .then(_trend(dollars, dollars_average))
        .alias("notional_trend"),
    )


def _trend(current: pl.Expr, average: pl.Expr) -> pl.Expr:
    """The week against its average, both multiplied by the same; null where there is a `trend_reason`."""
    return (
        pl.when(pl.col("trend_reason").is_not_null())
        .then(None)
        .when(current * 100 > average * (100 + TREND_PCT))
        .then(pl.lit(Trend.UP))
        .when(current * 100 < average * (100 - TREND_PCT))
        .then(pl.lit(Trend.DOWN))
        .otherwise(pl.lit(Trend.STABLE))
    )
