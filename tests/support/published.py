"""A source that publishes what the simulator of FINRA does, without requests: fast, with outages, and with a record."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable

import polars as pl

from otc_assets.content import Held
from otc_assets.domain.enums import CaptureScope
from otc_assets.domain.weeks import TIERS, Tier, weeks_between
from otc_assets.finra.simulator.files import as_text
from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.source import Capture, Progress, PublicationState, SourceError

Key = tuple[str, dt.date]


class Published:
    """The simulator's publications as of the day that ``today`` returns.

    Attributes:
        down: called with the day: whether the source does not answer.
        fetched: how often each state of each publication was fetched.
    """

    def __init__(self, today: Callable[[], dt.date], down: Callable[[dt.date], bool] = lambda day: False) -> None:
        self._simulator = Simulator(2014, 0.0005)
        self._today, self.down = today, down
        self._states: dict[tuple[Key, dt.date], PublicationState] = {}
        self.fetched: Counter[tuple[Key, PublicationState]] = Counter()

    def days(self, week: dt.date, tier: Tier) -> list[dt.date]:
        """The days on which the publication was first published, and revised."""
        return [self._simulator.published_on(week, tier), *self._simulator.revisions(week, tier)]

    def _rows(self, week: dt.date, tier: Tier, day: dt.date) -> pl.DataFrame:
        rows = self._simulator.publication(week, tier, day)
        assert rows is not None
        return rows.filter(pl.col("summaryTypeCode").str.ends_with("_SMBL_FIRM"))

    def _state_of(self, week: dt.date, tier: Tier, day: dt.date) -> PublicationState:
        key = ((tier.id, week), day)
        if key not in self._states:
            rows = self._rows(week, tier, day)
            self._states[key] = PublicationState(rows.height, rows["lastUpdateDate"].max())  # type: ignore[arg-type]
        return self._states[key]

    def everything(self, first: dt.date, last: dt.date, until: dt.date) -> dict[tuple[Key, dt.date], PublicationState]:
        """By publication and day, every state that was published until a day."""
        return {
            ((tier.id, week), day): self._state_of(week, tier, day)
            for tier in TIERS
            for week in weeks_between(first, last)
            for day in self.days(week, tier)
            if day <= until
        }

    def _ask(self) -> dt.date:
        if self.down(self._today()):
            raise SourceError("FINRA does not answer")
        return self._today()

    def offered(self) -> set[tuple[Tier, dt.date]]:
        raise NotImplementedError

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        today = self._ask()
        days = [day for day in self.days(week_ending, tier) if day <= today]
        return self._state_of(week_ending, tier, days[-1]) if days else None

    def fetch(self, week_ending: dt.date, tier: Tier, _: Progress | None = None, **__: object) -> list[Capture]:
        state = self.state(week_ending, tier)
        if state is None:
            return []
        self.fetched[(tier.id, week_ending), state] += 1
        rows = self._rows(week_ending, tier, self._today())
        content = Held(as_text(rows).write_csv(quote_style="always").encode())
        return [
            Capture(week_ending, tier, CaptureScope.FULL, content, f"published {tier.id} {week_ending}", state.rows)
        ]
