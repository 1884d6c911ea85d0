"""The page: fills the template with a report's sentences, tables and charts."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2

from otc_assets.domain.changes import LEAST_MAD, MAD_SCALE, NORM_WEEKS
from otc_assets.domain.concentration import CONCENTRATED_ABOVE, MODERATE_FROM, RANKED_FROM_SHARES, RANKED_FROM_TRADES
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.rolling import TREND_WEEKS
from otc_assets.domain.weeks import WINDOW_WEEKS
from otc_assets.report import charts, sentences, tables
from otc_assets.report import formats as f
from otc_assets.report.contents import Contents

#: Values of the domain that the method notes state.
_CONSTANTS = {
    "window": WINDOW_WEEKS,
    "trend_weeks": TREND_WEEKS,
    "norm_weeks": NORM_WEEKS,
    "mad_scale": MAD_SCALE,
    "least_mad": f"{LEAST_MAD:.0%}".replace("%", f"{f.NBSP}%"),
    "floor_shares": f"{RANKED_FROM_SHARES:,}",
    "floor_trades": f"{RANKED_FROM_TRADES:,}",
    "moderate": f"{MODERATE_FROM:,}",
    "concentrated": f"{CONCENTRATED_ABOVE:,}",
}
_COLOURS = {name: getattr(charts, name.upper()) for name in ("ink", "muted", "rule", "ats", "non_ats")}


def render(page: Contents) -> str:
    """The page of a report, complete in itself: styles and charts are in it, and it loads nothing."""
    return _template().render(
        page=page,
        sections=WEEKLY_REPORT.sections,
        f=f,
        s=sentences,
        t=tables,
        constants=_CONSTANTS,
        charts=_charts(page),
        style=_environment().get_template("style.css.j2").render(_COLOURS),
    )


def _charts(page: Contents) -> dict[str, Any]:
    """The charts as elements, by name; those of tiers in lists of (tier, volume, ATS share)."""
    of_tiers = []
    for number, tier in enumerate(page.tiers):
        of_tiers.append(
            (
                tier,
                charts.volume(tier, sentences.chart_of_volume(tier), f"volume{number}"),
                charts.ats_share(tier, sentences.chart_of_share(tier), f"share{number}"),
            )
        )
    found: dict[str, Any] = {"tiers": of_tiers, "movers": [], "markets": None}
    for number, tier in enumerate(page.tiers):
        if any(row.daily for row in page.movers[tier.tier]):
            rows = page.movers[tier.tier]
            text = f"{tier.tier}, shares per trading day against the norm: " + "; ".join(
                f"{row.symbol} {f.number(row.times, 2)} times" for row in rows
            )
            found["movers"].append((tier, charts.movers(rows, f"{text}.", f"movers{number}")))
    if page.markets:
        text = "HHI: " + "; ".join(
            f"{row.tier}, {row.scope} {sentences.hhi(row.hhi_lower, row.hhi)}" for row in page.markets
        )
        found["markets"] = charts.concentration(page.markets, f"{text}.", "markets")
    return found


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("otc_assets.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template() -> jinja2.Template:
    return _environment().get_template("page.html.j2")
