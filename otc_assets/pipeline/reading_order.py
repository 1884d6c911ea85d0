"""Orders recorded transactions by what they read, for a rebuild from the archive.

The events of a transaction have the ids of its end. A figure over several weeks reads weeks that it does not lock, and
a load of such a week can end while the figure is computed. Repeated in the order of ids, the figure would then read
rows that it had not read. Its recorded version names its inputs, so its place can be found. Other figures read only
their own week, which they lock. Repeating a transaction is in ``replay``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from otc_assets.archive.journal import Entry, week_of
from otc_assets.domain.enums import Grade
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIERS, weeks_up_to
from otc_assets.warehouse.events import RetentionApplied, WeekChecked
from otc_assets.warehouse.lineage import Lineage

#: How many transactions can have ended while a figure was computed, at most.
_WHILE_COMPUTING = 200

#: ('version', table, week) or ('grade', tier, week)
_Key = tuple[str, str, dt.date]
_State = dict[_Key, str]
#: What an entry replaced in the state: keys, and the values before.
_Replaced = list[tuple[_Key, str | None]]


def in_reading_order(entries: Sequence[Entry]) -> list[Entry]:
    """The same entries; a figure over several weeks is before those that it had not read."""
    ordered: list[Entry] = []
    replaced: list[_Replaced] = []
    state: _State = {}
    for entry in entries:
        place = len(ordered)
        for event in entry.events:
            if (figure := _figure(event)) is not None and figure.weeks > 1:
                place = _place(figure, event["payload"], state, replaced)
        ordered.insert(place, entry)
        replaced.insert(place, [(key, _set(state, key, value)) for key, value in _changes(entry, state)])
    return ordered


def _figure(event: Mapping[str, Any]) -> Figure | None:
    found = TABLES.get(event["payload"].get("table", ""))
    return found if isinstance(found, Figure) else None


def _set(state: _State, key: _Key, value: str | None) -> str | None:
    """Sets or deletes a value. Returns the one before."""
    before = state.pop(key, None)
    if value is not None:
        state[key] = value
    return before


def _place(figure: Figure, payload: Mapping[str, Any], state: _State, replaced: Sequence[_Replaced]) -> int:
    """The last place at which the figure had its recorded inputs; the end if there is none."""
    week, recorded = dt.date.fromisoformat(payload["week_ending"]), payload["version"].partition(" ")[0]
    end = len(replaced)
    if _inputs(figure, week, state) == recorded:
        return end
    earlier = dict(state)
    for place in range(end - 1, max(end - _WHILE_COMPUTING, 0) - 1, -1):
        for key, before in reversed(replaced[place]):
            _set(earlier, key, before)
        if replaced[place] and _inputs(figure, week, earlier) == recorded:
            return place
    return end


def _inputs(figure: Figure, week: dt.date, state: _State) -> str | None:
    """The digest of the figure's inputs."""
    window = weeks_up_to(week, figure.weeks)
    recorded = {
        source: {w: version for w in window if (version := state.get(("version", source, w)))}
        for source in figure.sources
    }
    blocked = {w for w in window if any(state.get(("grade", tier.name, w)) == Grade.F for tier in TIERS)}
    version = Lineage({}, recorded, blocked).version(figure.name, week)
    return version.partition(" ")[0] if version else None


def _changes(entry: Entry, state: _State) -> Iterator[tuple[_Key, str | None]]:
    """What an entry changes of the inputs of figures over several weeks."""
    for event in entry.events:
        payload, week = event["payload"], week_of(event)
        if week is not None and (figure := _figure(event)) is not None:
            yield ("version", figure.name, week), payload["version"]
        elif week is not None and event["event_type"] == WeekChecked.event_type:
            for tier, judged in payload["grades"].items():
                yield ("grade", tier, week), judged["grade"]
        elif event["event_type"] == RetentionApplied.event_type:
            for key in list(state):
                kind, table, of_week = key
                if (
                    kind == "version"
                    and TABLES[table].retention == payload["what"]
                    and str(of_week) < payload["retained_from"]
                ):
                    yield key, None
