"""A fault at any point of a materialization: it is explained, and the materialization after it repairs everything.

The installation is then as if nothing had happened: rows, events, archive and what Dagster stores, with no run, slot,
lock or file left behind. `make faults` tries all faults at all points of all assets, and `make test` a sample of them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from faults.extent import EXTENT, Extent
from faults.forks import Forks
from faults.lines import Case, Installation, Line
from faults.operations import ASSETS
from faults.points import Fault, Place, Point, cases_of

pytestmark = pytest.mark.slow

#: The last week with days of June: it has periods of every data set. Its T2 is revised on REVISED_ON.
WEEK = "2026-07-03"
NOW = dt.datetime(2026, 10, 14, 16, tzinfo=dt.UTC)

#: By asset of the sample, the places whose faults are tried there: files of the archive are written by a capture.
_SAMPLE = {"publication_t1": (Place.FILES, Place.STORAGE), "venue_volume": (Place.DATABASE,)}
_CHOSEN: dict[str, tuple[Place, ...]] = _SAMPLE if EXTENT == Extent.SAMPLE else dict.fromkeys(ASSETS, tuple(Place))

_SHOWN = 5


@pytest.fixture(scope="module")
def line(forks: Forks, prepared: Installation) -> Iterator[Assets]:
    """The assets of a week, one after another."""
    here = prepared.copy("line")
    yield Assets(Line(forks, here))
    here.remove()


class Assets:
    """The assets in their order: those before one are materialized when it is their turn."""

    def __init__(self, line: Line) -> None:
        self._line, self._done = line, 0

    def disturbed(self, asset: str) -> Any:
        for before in ASSETS[self._done : ASSETS.index(asset)]:
            self._line.go_on(NOW, "materialize", before, WEEK)
        self._done = ASSETS.index(asset) + 1
        return self._line.disturbed(NOW, "materialize", asset, WEEK)


def sample_of(cases: list[Case], places: tuple[Place, ...]) -> list[Case]:
    """One case of every kind: the one in the middle, because connections are made at the beginning."""
    kinds: dict[tuple[Fault, Place, str], list[Case]] = {}
    for case in cases:
        if case.at.place in places:
            kinds.setdefault((case.fault, case.at.place, _kind(case.fault, case.at)), []).append(case)
    return [of_kind[len(of_kind) // 2] for of_kind in kinds.values()]


def _kind(fault: Fault, point: Point) -> str:
    """Points of one kind are alike for the fault."""
    word = point.what.split()[0]
    if fault in (Fault.STOPPED, Fault.STORAGE_DOWN):
        return "any"  # nothing that follows works either
    if point.place == Place.FILES and fault == Fault.KILLED:
        return "create" if word in ("mkdir", "open") else "complete"
    if point.place == Place.DATABASE and word in ("INSERT", "UPDATE", "DELETE", "COPY"):
        return "change"
    return word if point.place == Place.FILES or word in ("commit", "within", "INSERT", "UPDATE", "DELETE") else "other"


@pytest.mark.parametrize("asset", _CHOSEN)
def test_after_a_fault_an_asset_is_materialized_as_if_nothing_had_happened(
    asset: str, line: Assets, record_property: Any
) -> None:
    with line.disturbed(asset) as disturbed:
        cases = [disturbed.case(fault, point) for fault, point in cases_of(disturbed.points)]
        chosen = cases if EXTENT == Extent.ALL else sample_of(cases, _CHOSEN[asset])
        record_property("points", len(disturbed.points))
        record_property("cases", len(chosen))
        failed = {str(case): problems for case in chosen if (problems := disturbed.problems(case))}
    shown = "\n\n".join("\n".join([case, *problems]) for case, problems in list(failed.items())[:_SHOWN])
    assert not failed, f"{len(failed)} of {len(chosen)} cases:\n{shown}\n\n" + "\n".join(failed)
