"""Splits the change of a venue's share into what it won within symbols, and what the mix of symbols gave it.

A venue's share of a tier is the sum over symbols of weight times share: the symbol's part of the tier's volume, times
the venue's part of the symbol's. Its change is split with the averages of both weeks, so that nothing is left over:
`within` is what the venue won inside symbols, `mix` what it gained because its symbols trade more. A symbol that traded
in one of both weeks alone has its share of that week in both: it is mix.
"""

from __future__ import annotations

import polars as pl


def shift_share(then: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
    """Splits the change of each venue's share into what it won within symbols and what the mix of symbols gave it.

    Args:
        then, now: rows with `identity_id`, `venue_id`, `symbol` and `share_volume`, of one tier in two weeks.

    Returns:
        `identity_id`, `venue_id` (the newest), `share_then`, `share_now`, `change`, `within` and `mix`, in percent and
        percentage points; change = within + mix.
    """
    key = ["identity_id", "symbol"]

    def parts(rows: pl.DataFrame, name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
        volumes = rows.group_by(key).agg(pl.col("share_volume").cast(pl.Float64).sum().alias("volume"))
        symbols = volumes.group_by("symbol").agg(pl.col("volume").sum().alias("total"))
        symbols = symbols.with_columns((pl.col("total") / pl.col("total").sum()).alias(f"weight_{name}"))
        shares = volumes.join(symbols.filter(pl.col("total") > 0), on="symbol").select(
            *key, (pl.col("volume") / pl.col("total")).alias(f"share_{name}")
        )
        return shares, symbols.filter(pl.col("total") > 0).drop("total")

    (shares_then, weights_then), (shares_now, weights_now) = parts(then, "then"), parts(now, "now")
    names = pl.concat([then, now]).group_by("identity_id", maintain_order=True).agg(pl.col("venue_id").last())
    w0, w1, s0, s1 = (pl.col(name) for name in ("weight_then", "weight_now", "share_then", "share_now"))
    both = (
        shares_then.join(shares_now, on=key, how="full", coalesce=True)
        .join(weights_then, on="symbol", how="left")
        .join(weights_now, on="symbol", how="left")
        .with_columns(
            # In a week without the symbol, its share is that of the other week. In a week with it, no share is zero.
            pl.when(w0.is_null()).then(s1).otherwise(s0.fill_null(0.0)).alias("share_then"),
            pl.when(w1.is_null()).then(s0).otherwise(s1.fill_null(0.0)).alias("share_now"),
            w0.fill_null(0.0),
            w1.fill_null(0.0),
        )
    )
    return (
        both.group_by("identity_id")
        .agg(
            (100 * (w0 * s0)).sum().alias("share_then"),
            (100 * (w1 * s1)).sum().alias("share_now"),
            (100 * (w0 + w1) / 2 * (s1 - s0)).sum().alias("within"),
            (100 * (s0 + s1) / 2 * (w1 - w0)).sum().alias("mix"),
        )
        .with_columns((pl.col("share_now") - pl.col("share_then")).alias("change"))
        .join(names, on="identity_id")
        .sort("venue_id")
    )
