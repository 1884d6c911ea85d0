"""The report's charts: Vega-Lite specifications, converted to SVG in this process, and made fit to be inlined.

Each chart has a text alternative, and its figures are in a table of the page. Colours differ in lightness too, so that
they can be told apart in print; each has a contrast of at least 3 to 1 against the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import vl_convert
from markupsafe import Markup

from otc_assets.domain.concentration import CONCENTRATED_ABOVE, MODERATE_FROM
from otc_assets.report import formats as f
from otc_assets.report.contents import Market, Mover, TierWeek

#: The page's colours; ``page`` puts them into its style sheet too.
INK, MUTED, RULE, ATS, NON_ATS = "#1b2430", "#56616f", "#d5dae1", "#0b4f8a", "#c46f12"

_FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif"
_WIDTH = 300
_Json = dict[str, Any]

#: The version of Vega-Lite that the specifications are written for.
_VEGA_LITE = "6.4"
_CONFIG: _Json = {
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
_BOX = re.compile(r'\bviewBox="([^"]+)"')
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
    kinds = {"domain": ["ATS", "other"], "range": [ATS, NON_ATS]}
    chart: _Json = {
        "mark": {"type": "bar", "size": 30},
        "encoding": {
            "x": _weeks(weeks),
            "y": _quantity("shares", axis=_left(32, tickCount=4)),
            "color": {"field": "kind", "type": "nominal", "scale": kinds, "legend": None},
            "order": {"field": "order", "type": "quantitative"},
        },
    }
    return _svg(chart, rows, (_WIDTH, 150), text, name)


def ats_share(tier: TierWeek, text: str, name: str) -> Markup:
    """The ATSs' share of a tier's shares over the window."""
    weeks = [f.short_day(day.week_ending) for day in tier.history]
    rows = [
        {"week": week, "share": float(share), "label": f.pct(share)}
        for week, day in zip(weeks, tier.history, strict=True)
        if (share := day.ats_share_pct) is not None
    ]
    scale = {"zero": False, "nice": False, "padding": 16}
    y = _quantity("share", scale=scale, axis=_left(32, labels=False, grid=False))
    point = {"color": ATS, "filled": True, "size": 40}
    label = {"text": {"field": "label", "type": "nominal"}, "y": {"value": 0}}
    chart: _Json = {
        "encoding": {"x": _weeks(weeks)},
        "layer": [
            {"mark": {"type": "line", "color": ATS, "strokeWidth": 2, "point": point}, "encoding": {"y": y}},
            {"mark": {"type": "text", "baseline": "top", "fontSize": 11, "color": INK}, "encoding": label},
        ],
    }
    return _svg(chart, rows, (_WIDTH, 80), text, name)


def movers(rows: Sequence[Mover], text: str, name: str) -> Markup:
    """Symbols' shares per trading day, from their norm to the week, on a logarithmic scale."""
    shown = [row for row in rows if row.daily > 0]  # a logarithm needs more than zero
    data = [{"symbol": row.symbol, "norm": float(row.norm), "week": float(row.daily)} for row in shown]
    values = [float(value) for row in shown for value in (row.norm, row.daily)]
    low, high = min(values) / 1.4, max(values) * 1.4
    scale = {"type": "log", "domain": [low, high], "nice": False}
    axis = {"format": "~s", "values": _decades(low, high), "ticks": False, "domain": False}
    norm, week = _quantity("norm", scale=scale, axis=axis), _quantity("week", scale=scale, axis=axis)
    hollow = {"type": "point", "color": MUTED, "filled": False, "size": 55, "strokeWidth": 1.5, "fill": "white"}
    solid = {"type": "point", "color": ATS, "filled": True, "size": 70, "opacity": 1}
    chart: _Json = {
        "encoding": {"y": _names("symbol", data, axis=_left(64, labelColor=INK))},
        "layer": [
            {
                "mark": {"type": "rule", "color": MUTED, "strokeWidth": 1.5},
                "encoding": {"x": norm, "x2": {"field": "week"}},
            },
            {"mark": hollow, "encoding": {"x": norm}},
            {"mark": solid, "encoding": {"x": week}},
        ],
    }
    return _svg(chart, data, (_WIDTH - 40, 26 * len(data)), text, name)


def concentration(rows: Sequence[Market], text: str, name: str) -> Markup:
    """The HHI of markets as intervals, with the limits of the levels."""
    data: list[_Json] = [
        {
            "market": f"{row.tier}, {row.scope}",
            "low": float(row.hhi if row.hhi_lower is None else row.hhi_lower),
            "high": float(row.hhi),
            "middle": float((row.hhi + (row.hhi if row.hhi_lower is None else row.hhi_lower)) / 2),
        }
        for row in rows
    ]
    highest = max(CONCENTRATED_ABOVE * 1.15, *(row["high"] * 1.08 for row in data))
    scale = {"domain": [0, highest], "nice": False}
    axis = {
        "values": [0, 500, 1000, MODERATE_FROM, 2000, CONCENTRATED_ABOVE, 5000, 7500, 10_000],
        "format": ",d",
        "ticks": False,
        "domain": False,
    }
    low, middle, limit = (_quantity(field, scale=scale, axis=axis) for field in ("low", "middle", "limit"))
    market = _names("market", data, axis=_left(170, labelColor=INK, labelLimit=240))
    chart: _Json = {
        "layer": [
            {
                "data": {"values": [{"limit": MODERATE_FROM}, {"limit": CONCENTRATED_ABOVE}]},
                "mark": {"type": "rule", "color": NON_ATS, "strokeDash": [4, 3], "strokeWidth": 1.5},
                "encoding": {"x": limit},
            },
            {
                "mark": {"type": "bar", "height": 9, "color": ATS, "opacity": 1},
                "encoding": {"y": market, "x": low, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "tick", "color": ATS, "thickness": 3, "height": 14, "opacity": 1},
                "encoding": {"y": market, "x": middle},
            },
        ],
    }
    return _svg(chart, data, (_WIDTH + 90, 24 * len(data)), text, name)


def _left(extent: int, **options: Any) -> _Json:
    """A vertical axis of a fixed width: text is wider in some browsers than where it was measured."""
    return {"domain": False, "ticks": False, "minExtent": extent, "maxExtent": extent, **options}


def _weeks(weeks: Sequence[str]) -> _Json:
    axis = {"labelAngle": 0, "ticks": False}
    return {"field": "week", "type": "ordinal", "title": None, "scale": {"domain": list(weeks)}, "axis": axis}


def _quantity(field: str, **options: Any) -> _Json:
    return {"field": field, "type": "quantitative", "title": None, **options}


def _names(field: str, rows: Sequence[_Json], **options: Any) -> _Json:
    """An axis of names, in the order of ``rows``."""
    order = [row[field] for row in rows]
    return {"field": field, "type": "nominal", "sort": order, "title": None, **options}


def _decades(low: float, high: float) -> list[int]:
    """The ticks of a logarithmic axis: powers of ten, with their double and fivefold if there are few."""
    for steps in ((1,), (1, 2, 5)):
        found = [step * 10**power for power in range(13) for step in steps if low <= step * 10**power <= high]
        if len(found) > 2:
            return found
    return found


def _millions(shares: Any) -> float:
    return float(shares / 10**6)


def _svg(chart: _Json, rows: Sequence[_Json], size: tuple[int, int], text: str, name: str) -> Markup:
    """The chart as an element for the page: one image with a text alternative, as wide as its place."""
    width, height = size
    whole = {"data": {"values": rows}, "width": width, "height": height, "config": _CONFIG, **chart}
    svg = vl_convert.vegalite_to_svg(whole, vl_version=_VEGA_LITE)
    found = _ROOT.search(svg)
    box = _BOX.search(svg)
    assert found is not None, "vl-convert gave no SVG"
    assert box is not None, "vl-convert gave an SVG without a viewBox"
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(text)}" viewBox="{box[1]}" '
        f'style="max-width:{box[1].split()[2]}px">'
    )
    # Vega gives groups of marks roles without names, although the chart is one image.
    body = _TAG.sub(lambda tag: _ROLES.sub("", tag[0]), svg[found.end() :])
    for identifier in set(_ID.findall(body)):  # the same in every chart, and the page has several
        body = body.replace(f'id="{identifier}"', f'id="{name}-{identifier}"').replace(
            f"url(#{identifier})", f"url(#{name}-{identifier})"
        )
    return Markup(root + body)  # noqa: S704 - Vega escapes its texts, and the alternative text is escaped above
