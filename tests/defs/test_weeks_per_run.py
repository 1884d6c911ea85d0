"""A command's runs have many small weeks, and few large ones. The launcher is a stand-in that only takes time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from otc_assets.defs import materialize
from otc_assets.defs.launch import RunFailed
from otc_assets.domain.weeks import weeks_between

WEEKS = weeks_between(dt.date(2022, 1, 7), dt.date(2026, 10, 16))


@dataclass
class Launcher:
    """Runs take a second, and so many for each week."""

    seconds: Callable[[dt.date], float]
    fails: bool = False
    now: float = 0.0
    runs: list[tuple[dt.date, dt.date]] = field(default_factory=list)

    def run_assets(self, _: Sequence[str], first: dt.date, last: dt.date, **__: Any) -> None:
        self.runs.append((first, last))
        self.now += 1 + sum(map(self.seconds, weeks_between(first, last)))
        if self.fails:
            raise RunFailed("no space left", "0123")

    @property
    def sizes(self) -> list[int]:
        return [len(weeks_between(first, last)) for first, last in self.runs]


def computed(monkeypatch: pytest.MonkeyPatch, launcher: Launcher, weeks: Sequence[dt.date]) -> list[int]:
    """Computes weeks. Returns the number of weeks that were done after each run."""
    monkeypatch.setattr(materialize.time, "monotonic", lambda: launcher.now)
    done: list[int] = []
    failed = materialize.compute_downstream(
        launcher,  # type: ignore[arg-type]
        weeks,
        lambda number, note: done.append(number) if note.endswith(" done") else None,
    )
    assert bool(failed) == launcher.fails
    return done


def test_runs_of_small_weeks_get_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Launcher(lambda week: 0.1)
    done = computed(monkeypatch, launcher, WEEKS)
    assert launcher.sizes == [12, 24, 48, 52, 52, 52, 10]
    assert launcher.runs[0][0] == WEEKS[0]
    assert all(last + dt.timedelta(weeks=1) == first for (_, last), (first, _) in pairwise(launcher.runs))
    assert launcher.runs[-1][1] == WEEKS[-1]
    assert done == [12, 36, 84, 136, 188, 240, 250]


def test_runs_of_large_weeks_get_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Launcher(lambda week: 7)
    computed(monkeypatch, launcher, WEEKS[:30])
    assert launcher.sizes == [12, 6, 6, 6]
    launcher = Launcher(lambda week: 60)
    computed(monkeypatch, launcher, WEEKS[:30])
    assert launcher.sizes == [12, 6, 4, 4, 4]


def test_weeks_that_are_not_consecutive_are_in_runs_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Launcher(lambda week: 0.1)
    done = computed(monkeypatch, launcher, [*WEEKS[20:40], *WEEKS[2:4], WEEKS[10]])
    assert launcher.runs == [(WEEKS[2], WEEKS[3]), (WEEKS[10], WEEKS[10]), (WEEKS[20], WEEKS[39])]
    assert done == [2, 3, 23]


def test_a_run_that_fails_at_once_is_not_taken_for_a_fast_one(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = Launcher(lambda week: 0, fails=True)
    computed(monkeypatch, launcher, WEEKS[:30])
    assert launcher.sizes == [12, 12, 6]
