"""The report's charts: Vega-Altair specifications, converted to SVG in this process, and made fit to be inlined.

Each chart has a text alternative, and its figures are in a table of the page. Colours differ in lightness too, so that
they can be told apart in print; each has a contrast of at least 3 to 1 against the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

from otc_assets.domain.concentration import CONCENTRATED_ABOVE, MODERATE_FROM
from otc_assets.report import formats as f
from otc_assets.report.contents import Market, Mover, TierWeek

#: The page's colours; ``page`` puts them into its style sheet too.
INK, MUTED, RULE, ATS, NON_ATS = "#1b2430", "#56616f", "#d5dae1", "#0b4f8a", "#c46f12"

_FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif"
_WIDTH = 300
_CONFIG: dict[str, Any] = {
    "aria": False,  # the whole chart is one image with one text alternative
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED,
        "titleColor": MUTED,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "gridColor": RULE,
        "domainColor": MUTED,
        "tickColor": MUTED,
    },
}
_ROOT = re.compile(r"<svg\b[^>]*>")
_SIZE = re.compile(r'\bviewBox="([^"]+)"')
_TAG, _ROLES = re.compile(r"<[^>]+>"), re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
_ID = re.compile(r'\bid="([^"]+)"')


def volume(tier: TierWeek, text: str, name: str) -> Markup:
    """A tier's shares per trading day over the window, ATSs below other firms. Weeks without a capture are empty."""
    weeks = [f.short_day(day.week_ending) for day in tier.history]
    rows = [
        {"week": week, "kind": kind, "order": order, "shares": _millions(shares)}
        for week, day in zip(weeks, tier.history, strict=True)
        for order, (kind, shares) in enumerate((("ATS", day.ats), ("other", day.non_ats)))
        if shares is not None
    ]
    bars = (
        alt.Chart(_data(rows))
        .mark_bar(size=30)
        .encode(
            x=_weeks(weeks),
            y=alt.Y("shares:Q", title=None, axis=_left(32, tickCount=4)),
            color=alt.Color("kind:N", scale=alt.Scale(domain=["ATS", "other"], range=[ATS, NON_ATS]), legend=None),
            order="order:Q",
        )
    )
    return _svg(bars.properties(width=_WIDTH, height=150), text, name)


def ats_share(tier: TierWeek, text: str, name: str) -> Markup:
    """The ATSs' share of a tier's shares over the window."""
    weeks = [f.short_day(day.week_ending) for day in tier.history]
    rows = [
        {"week": week, "share": float(share), "label": f.pct(share)}
        for week, day in zip(weeks, tier.history, strict=True)
        if (share := day.ats_share_pct) is not None
    ]
    base = alt.Chart(_data(rows)).encode(
        x=_weeks(weeks),
        y=alt.Y(
            "share:Q",
            title=None,
            scale=alt.Scale(zero=False, nice=False, padding=16),
            axis=_left(32, labels=False, grid=False),
        ),
    )
    line = base.mark_line(color=ATS, strokeWidth=2, point={"color": ATS, "filled": True, "size": 40})
    labels = base.mark_text(baseline="top", fontSize=11, color=INK).encode(text="label:N", y=alt.value(0))
    return _svg((line + labels).properties(width=_WIDTH, height=80), text, name)


def movers(rows: Sequence[Mover], text: str, name: str) -> Markup:
    """Symbols' shares per trading day, from their norm to the week, on a logarithmic scale."""
    shown = [row for row in rows if row.daily > 0]  # a logarithm needs more than zero
    data = [{"symbol": row.symbol, "norm": float(row.norm), "week": float(row.daily)} for row in shown]
    symbols = [row.symbol for row in shown]
    values = [float(value) for row in shown for value in (row.norm, row.daily)]
    low, high = min(values) / 1.4, max(values) * 1.4
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    base = alt.Chart(_data(data)).encode(y=alt.Y("symbol:N", sort=symbols, title=None, axis=_left(64, labelColor=INK)))
    axis = alt.Axis(format="~s", values=_decades(low, high), ticks=False, domain=False)
    lines = base.mark_rule(color=MUTED, strokeWidth=1.5).encode(
        x=alt.X("norm:Q", scale=scale, title=None, axis=axis), x2="week:Q"
    )
    norms = base.mark_point(color=MUTED, filled=False, size=55, strokeWidth=1.5, fill="white").encode(
        x=alt.X("norm:Q", scale=scale)
    )
    weeks = base.mark_point(color=ATS, filled=True, size=70, opacity=1).encode(x=alt.X("week:Q", scale=scale))
    return _svg((lines + norms + weeks).properties(width=_WIDTH - 40, height=26 * len(data)), text, name)


def concentration(rows: Sequence[Market], text: str, name: str) -> Markup:
    """The HHI of markets as intervals, with the limits of the levels."""
    data: list[dict[str, Any]] = [
        {
            "market": f"{row.tier}, {row.scope}",
            "low": float(row.hhi if row.hhi_lower is None else row.hhi_lower),
            "high": float(row.hhi),
            "middle": float((row.hhi + (row.hhi if row.hhi_lower is None else row.hhi_lower)) / 2),
        }
        for row in rows
    ]
    names = [row["market"] for row in data]
    highest = max(CONCENTRATED_ABOVE * 1.15, *(row["high"] * 1.08 for row in data))
    scale = alt.Scale(domain=[0, highest], nice=False)
    base = alt.Chart(_data(data)).encode(
        y=alt.Y(
            "market:N",
            sort=names,
            title=None,
            axis=_left(170, labelColor=INK, labelLimit=240),
        )
    )
    axis = alt.Axis(
        values=[0, 500, 1000, MODERATE_FROM, 2000, CONCENTRATED_ABOVE, 5000, 7500, 10_000],
        format=",d",
        ticks=False,
        domain=False,
    )
    bars = base.mark_bar(height=9, color=ATS, opacity=1).encode(
        x=alt.X("low:Q", scale=scale, title=None, axis=axis), x2="high:Q"
    )
    ticks = base.mark_tick(color=ATS, thickness=3, height=14, opacity=1).encode(x=alt.X("middle:Q", scale=scale))
    limits = (
        alt.Chart(_data([{"limit": MODERATE_FROM}, {"limit": CONCENTRATED_ABOVE}]))
        .mark_rule(color=NON_ATS, strokeDash=[4, 3], strokeWidth=1.5)
        .encode(x=alt.X("limit:Q", scale=scale, title=None, axis=axis))
    )
    return _svg((limits + bars + ticks).properties(width=_WIDTH + 90, height=24 * len(data)), text, name)


def _left(extent: int, **options: Any) -> alt.Axis:
    """A vertical axis of a fixed width: text is wider in some browsers than where it was measured."""
    return alt.Axis(domain=False, ticks=False, minExtent=extent, maxExtent=extent, **options)


def _weeks(weeks: Sequence[str]) -> alt.X:
    scale = alt.Scale(domain=list(weeks))
    return alt.X("week:O", title=None, scale=scale, axis=alt.Axis(labelAngle=0, ticks=False))


def _decades(low: float, high: float) -> list[int]:
    """The ticks of a logarithmic axis: powers of ten, with their double and fivefold if there are few."""
    for steps in ((1,), (1, 2, 5)):
        found = [step * 10**power for power in range(13) for step in steps if low <= step * 10**power <= high]
        if len(found) > 2:
            return found
    return found


def _millions(shares: Any) -> float:
    return float(shares / 10**6)


def _data(rows: Iterable[dict[str, Any]]) -> alt.Data:
    return alt.Data(values=list(rows))


def _svg(chart: Any, text: str, name: str) -> Markup:
    """The chart as an element for the page: one image with a text alternative, as wide as its place."""
    # Altair would check its own output against the schema of Vega-Lite, which takes two fifths of the time of a page.
    spec = chart.configure(**_CONFIG).to_dict(validate=False)
    svg = vl_convert.vegalite_to_svg(spec)
    found = _ROOT.search(svg)
    size = _SIZE.search(svg)
    assert found is not None, "vl-convert gave no SVG"
    assert size is not None, "vl-convert gave an SVG without a viewBox"
    width = size[1].split()[2]
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(text)}" viewBox="{size[1]}" '
        f'style="max-width:{width}px">'
    )
    # Vega gives groups of marks roles without names, although the chart is one image.
    body = _TAG.sub(lambda tag: _ROLES.sub("", tag[0]), svg[found.end() :])
    for identifier in set(_ID.findall(body)):  # the same in every chart, and the page has several
        body = body.replace(f'id="{identifier}"', f'id="{name}-{identifier}"').replace(
            f"url(#{identifier})", f"url(#{name}-{identifier})"
        )
    return Markup(root + body)  # noqa: S704 - Vega escapes its texts, and the alternative text is escaped above
