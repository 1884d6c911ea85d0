"""Why a selection has no rows: a name that does not exist, with near ones, or weeks that are not loaded."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import polars as pl

from otc_assets.client.errors import NoRows, UnknownName
from otc_assets.client.selection import Selection, tiers_of
from otc_assets.client.verbs import Verb, sql_text
from otc_assets.client.weeks import Span
from otc_assets.domain.enums import GapStatus
from otc_assets.domain.tables import in_order
from otc_assets.domain.weeks import NEW_YORK, TIER_BY_NAME, due_at, publication_date

Query = Callable[[str, Any], pl.DataFrame]

#: At most so many names are offered, and so many reasons are listed.
_MOST = 5


#: Of each column with names: what they are names of, and tables that have them.
_KNOWN = {"symbol": ("symbol", "symbol", "venue_volume"), "venue_id": ("venue", "venue", "venue_volume")}


def check_names(query: Query, column: str, wanted: Iterable[str], verb: Verb | None = None) -> None:
    """Refuses symbols and venues that no loaded week has.

    Args:
        query: runs a statement.
        column: ``symbol`` or ``venue_id``.
        wanted: the names.
        verb: what was read, if it is a verb: its table may have names that no weekly publication has.

    Raises:
        UnknownName: with the names that are nearest.
    """
    names = list(wanted)
    what, *tables = _KNOWN[column]
    if verb is not None and not verb.statement:
        tables.append(verb.table.name)
    # Figures do not have the names of weeks that are graded F or not computed yet; venue volume does.
    parts = [f"SELECT DISTINCT {column} AS name FROM otc.{table} WHERE {column} = ANY(%(names)s)" for table in tables]  # noqa: S608
    known = query(" UNION ".join(parts), {"names": names})
    missing = [name for name in names if name not in set(known["name"])]
    if not missing:
        return
    everything = query(sql_text(f"names_of_{what}s"), None)
    near = suggestions(missing[0], everything.rows())
    shown = ", ".join(f"{name} ({text})" if text else name for name, text in near)
    also = f" (nor {', '.join(missing[1:])})" if missing[1:] else ""
    case = " Symbols are case-sensitive." if column == "symbol" else ""
    hint = f"Similar: {shown}." if near else f"Search by name: find({missing[0]!r})."
    if everything.is_empty():
        hint = "Nothing is loaded yet: 'otc-assets up' or 'otc-assets materialize' loads weeks."
    raise UnknownName(
        f"no loaded week has the {what} {missing[0]!r}{also}",
        remedy=hint + (case if near else ""),
        suggestions=[name for name, _ in near],
    )


def suggestions(name: str, known: Sequence[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    """The names that are nearest to one that does not exist, nearest first.

    Args:
        name: what was written.
        known: the names there are, each with its description.

    >>> suggestions("BRKB", [("BRK.A", "Berkshire A"), ("BRK.B", "Berkshire B"), ("IBM", "IBM")])[0][0]
    'BRK.B'
    """
    wanted, bare = name.casefold(), _bare(name)
    same = [pair for pair in known if _bare(pair[0]) == bare]
    named = [pair for pair in known if len(wanted) >= 3 and wanted in (pair[1] or "").casefold()]
    by_folded = {pair[0].casefold(): pair for pair in known}
    near = [by_folded[found] for found in difflib.get_close_matches(wanted, list(by_folded), n=_MOST, cutoff=0.7)]
    return list(dict.fromkeys([*same, *named[:_MOST], *near]))[:_MOST]


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def check_known(selection: Selection, first_load: dt.datetime | None) -> None:
    """Explains an answer as of a moment before the selected weeks were first loaded.

    Raises:
        NoRows: they were loaded later.
    """
    if selection.as_of is None or first_load is None or first_load <= selection.as_of:
        return
    what = "these weeks" if selection.weeks else "it"
    raise NoRows(
        f"{selection.verb.name} has no rows as of {selection.as_of.isoformat()}: nothing of {what} was known then",
        remedy=f"The first load was at {first_load.astimezone(selection.as_of.tzinfo).isoformat(timespec='seconds')}.",
    )


# --- weeks ---------------------------------------------------------------------------------------------


def check_weeks(query: Query, selection: Selection, now: dt.datetime) -> None:
    """Explains weeks that have no rows at all; returns if the selected rows are none, but their weeks are loaded.

    Args:
        query: runs a statement.
        selection: one without rows, its weeks resolved.
        now: the current time.

    Raises:
        NoRows: with a reason for each tier.
    """
    table = selection.verb.table
    tiers = tiers_of(selection)
    asked = {"table": table.name, "tiers": list(tiers), "by_week": table.name in in_order()}
    loaded = query(sql_text("loaded_weeks"), asked)
    if loaded.is_empty():
        raise NoRows(
            f"no week of {', '.join(tiers)} is loaded yet",
            remedy="'otc-assets up' or 'otc-assets materialize --newest' loads the newest weeks.",
        )
    if not selection.weeks:
        return
    have = {(week, tier): (state, grade, computed) for week, tier, state, grade, computed in loaded.rows()}
    if any(_inside(week, selection.weeks.spans) and computed for (week, _), (*_, computed) in have.items()):
        return
    kept = query("SELECT keep_weeks, dropped_until FROM otc.retention WHERE what = %s", [table.retention or ""]).rows()
    keep_weeks, dropped_until = kept[0] if kept else (None, None)
    gaps = {(week, tier): rest for week, tier, *rest in query(_GAPS, None).rows()}
    reasons: dict[tuple[dt.date, str], list[str]] = {}
    for week in sorted({week for span in selection.weeks.spans if (week := span.last or span.first)}):
        for tier in tiers:
            captured = [known for known, name in have if name == tier]
            if dropped_until is not None and week <= dropped_until:
                reason = (
                    f"retention has deleted it: {keep_weeks or 'all'} weeks of {table.retention} are kept, since "
                    f"{dropped_until + dt.timedelta(weeks=1)}"
                )
            elif (week, tier) in have:
                state, grade, _ = have[week, tier]
                reason = (
                    "it is graded F, so no figures are computed from it"
                    if grade == "F"
                    else f"it is {state}, and {table.name} is not computed yet"
                )
            else:
                reason = _not_captured(week, tier, gaps.get((week, tier)), captured, now)
            reasons.setdefault((week, reason), []).append(tier)
    shown = [f"{', '.join(tiers)}, week {week}: {reason}" for (week, reason), tiers in reasons.items()]
    more = f"; and {len(shown) - _MOST} more" if len(shown) > _MOST else ""
    newest = max((week for (week, _), (*_, computed) in have.items() if computed), default=None)
    raise NoRows(
        f"{selection.verb.name} has no rows. {'; '.join(shown[:_MOST])}{more}",
        remedy=f"The newest week with rows is {newest}." if newest else "",
    )


_GAPS = "SELECT week_ending, tier, status, due, detail FROM otc.gap"


def _inside(week: dt.date, spans: Sequence[Span]) -> bool:
    return any((not span.first or span.first <= week) and (not span.last or week <= span.last) for span in spans)


def _not_captured(
    week: dt.date, tier: str, gap: list[Any] | None, captured: Sequence[dt.date], now: dt.datetime
) -> str:
    if due_at(week, TIER_BY_NAME[tier]) > now:
        when = publication_date(week, TIER_BY_NAME[tier])
        today = now.astimezone(NEW_YORK).date()
        return f"pending: FINRA publishes it on {when}" if when >= today else f"pending: it was due on {when}"
    if gap is not None:
        status, _, detail = gap
        return f"{GapStatus(status)}: {detail}. 'otc-assets backfill --weeks {week}' fetches it"
    if captured and week < min(captured):
        return (
            f"it was never requested: the first loaded week is {min(captured)}. 'otc-assets backfill --weeks {week}' "
            "fetches it, if FINRA still offers it"
        )
    return f"it is not captured. 'otc-assets backfill --weeks {week}' fetches it"
