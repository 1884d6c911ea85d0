"""Price jumps that are near a split ratio, found from the implied price: dollars over shares, by symbol and week.

A weekly average price says how much it changed, not why: a price that halves for another reason looks like a 2:1 split.
So a jump is reported with its ratio, and no figure is adjusted for it.
"""

from __future__ import annotations

import math

import polars as pl

#: Shares after for shares before, of splits that are common in the US market; reverse splits are the same, upside down.
RATIOS = ((3, 2), *((n, 1) for n in (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 250, 500)))

#: The price is near a ratio if it is within this part of it: the price moves in the two weeks as well.
NEAR = 0.1

#: A split does not change what is traded in dollars: a jump whose dollars per week changed by more is no split.
NOTIONAL_WITHIN = 3

#: Fewer trades in either week give no reliable average price.
MIN_TRADES = 100

_CANDIDATES = [(f"{new}:{old}", math.log(new / old)) for a, b in RATIOS for new, old in ((a, b), (b, a))]


def split_ratio(factor: float) -> str | None:
    """The split ratio, as '10:1', that a fall of the price to 1 / ``factor`` is near; None if it is near none."""
    if not factor > 0:
        return None
    name, size = min(_CANDIDATES, key=lambda candidate: abs(candidate[1] - math.log(factor)))
    return name if abs(factor / math.exp(size) - 1) <= NEAR else None


def splits(history: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The newest jump of each symbol's implied price that is near a split ratio.

    Args:
        history: rows with ``key``, `week_ending`, `total_volume`, `total_trades`, `total_notional`, one per week.
        key: the columns that identify a symbol.

    Returns:
        ``key``, `split_week` (the first week at the new price) and `split_ratio`: new shares for old ones.
    """
    volume, notional = pl.col("total_volume").cast(pl.Float64), pl.col("total_notional").cast(pl.Float64)
    price = (notional / volume).alias("_price")
    traded = (
        history.filter((pl.col("total_volume") > 0) & (pl.col("total_notional") > 0))
        .filter(pl.col("total_trades") >= MIN_TRADES)
        .sort(*key, "week_ending")
    )
    jumps = traded.select(
        *key,
        pl.col("week_ending").alias("split_week"),
        (price.shift(1).over(key) / price).alias("_factor"),
        (notional / notional.shift(1).over(key)).alias("_dollars"),
    ).filter(
        pl.col("_dollars").is_between(1 / NOTIONAL_WITHIN, NOTIONAL_WITHIN)
        # The smallest ratio is 3:2: most rows end here, before each is compared with every ratio.
        & ~pl.col("_factor").is_between((1 + NEAR) / 1.5, 1.5 * (1 - NEAR), closed="none")
    )
    return (
        jumps.with_columns(pl.Series("split_ratio", [split_ratio(f) for f in jumps["_factor"]], pl.String))
        .drop_nulls("split_ratio")
        .sort("split_week")
        .group_by(key, maintain_order=True)
        .agg(pl.col("split_week", "split_ratio").last())
    )
