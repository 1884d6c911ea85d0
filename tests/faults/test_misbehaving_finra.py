"""FINRA misbehaves during a capture: it is complete all the same, or fails with the reason and leaves nothing behind.

Which replies the client tries again is in ``tests/finra``; here, whole runs are compared with undisturbed ones.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from faults.extent import EXTENT, Extent
from faults.forks import Forks
from faults.lines import Installation, Line
from faults.state import State
from support.web_server import free_port

from otc_assets.finra.simulator.generator import Simulator
from otc_assets.finra.simulator.server import make_app, serve
from otc_assets.finra.simulator.traps import Traps

pytestmark = pytest.mark.slow

WEEK = "2026-07-03"
_ALL = EXTENT != Extent.SAMPLE
NOW = dt.datetime(2026, 10, 14, 16, tzinfo=dt.UTC)
CAPTURE = ("materialize", "publication_t1", WEEK)

#: The address is in the origin of what is captured.
_PORT = int(free_port())

#: Several pages.
_PAGES = Traps(short_pages=60)

#: Seconds for which a silent FINRA is waited for, instead of 20; a slow reply, twice as many.
_PATIENCE = 1.0

#: Traps that a capture gets over by asking again, if not every reply has them, and what the error says if each has.
#: After a fault for which all pages are read again, a time without faults has to follow.
_PASSING = {
    "429 with Retry-After": (Traps(too_many_requests=1), "FINRA answered 429"),
    "429 without Retry-After": (Traps(too_many_requests=1, retry_after=""), "FINRA answered 429"),
    "500": (Traps(internal_errors=1), "FINRA answered 500"),
    "504": (Traps(server_errors=1), "FINRA answered 504"),
    "a truncated reply": (Traps(truncated=1), "is truncated"),
    "another total": (Traps(moving_total=1, last_fault=8), "the page at row 492 is truncated"),
    "a repeated page": (Traps(repeated=1, last_fault=8), "changed while they were read"),
    "a reset connection": (Traps(reset=1), "no answer after 6 tries"),
    "a body that is not gzip": (Traps(wrong_gzip=1), "can't be decompressed as gzip"),
    "a gzip body that ends early": (Traps(truncated_gzip=1), "ends within its gzip data"),
    "a stall": (Traps(stall=1), "tries (ReadTimeout"),
    "one byte a second": (Traps(trickle=1), "bytes came in 2 seconds, and the rest is not waited for"),
}
#: Traps that it reports at once, by what the error says.
_REFUSED = {
    "HTML": (Traps(html=1), "HTML"),
    "a redirect": (Traps(redirect=1), "302"),
    "another column": (Traps(changed_schema=1), "weeklyShareQuantity"),
    "an impossible total": (Traps(huge_total=1), "999,999,999,999"),
}


def _every(traps: Traps, number: int) -> Traps:
    """The traps at every ``number``-th request, of a publication that has several pages."""
    chosen = {name: number for name, value in vars(traps).items() if value == 1 and isinstance(value, int)}
    last = traps.last_fault if number > 1 else 0
    return replace(traps, short_pages=_PAGES.short_pages, last_fault=last, **chosen)


@contextmanager
def finra(traps: Traps) -> Iterator[dict[str, str]]:
    """A FINRA with traps, and the settings for it."""
    app = make_app(Simulator(2014, 0.001), clock=NOW.date, traps=traps)
    with serve(app, _PORT) as address:
        yield {"OTC_SOURCE": "api", "OTC_FINRA_URL": address, "OTC_REQUESTS_PER_MINUTE": "1200"}


@pytest.fixture(scope="module")
def before(forks: Forks, prepared: Installation) -> Iterator[Installation]:
    """An installation that has captured nothing yet."""
    here = prepared.copy("before_capture")
    Line(forks, here).go_on(NOW, "materialize", "week_calendar", WEEK)
    yield here
    here.remove()


def _capture(forks: Forks, here: Installation, traps: Traps, **options: Any) -> tuple[int | None, str]:
    patience = _PATIENCE if traps.stall or traps.trickle else None
    with finra(traps) as settings:
        (outcome,) = forks.perform(here.task(NOW, *CAPTURE, settings=settings, patience=patience, **options))
    return outcome.code, outcome.error


@pytest.fixture(scope="module")
def expected(forks: Forks, before: Installation) -> State:
    """What an undisturbed capture leaves."""
    here = before.copy("undisturbed")
    assert _capture(forks, here, _PAGES) == (0, "")
    state = _without_refusals(here)
    here.remove()
    assert len(state.tables["publication"]) == 1
    return state


def _without_refusals(here: Installation) -> State:
    """The state, without the record that replies were refused."""
    state = here.state()
    state.events = [event for event in state.events if not event.startswith("otc.file.rejected ")]
    state.tables["file_ledger"] = [row for row in state.tables["file_ledger"] if ",rejected," not in row]
    return state


#: What a capture gets over, by name: a faulty reply now and then, and unusual ones always.
_GOT_OVER = {
    **{
        f"{trap} every {number} requests": _every(_PASSING[trap][0], number)
        for trap in (_PASSING if _ALL else ("a truncated reply", "a gzip body that ends early", "a repeated page"))
        for number in ((2, 3, 5) if _ALL else (3,))
    },
    "short pages": _every(Traps(halved=1), 1),
}


@pytest.mark.parametrize("name", _GOT_OVER)
def test_a_capture_gets_over_replies_that_are_faulty_now_and_then_or_unusual(
    name: str, forks: Forks, before: Installation, expected: State
) -> None:
    here = before.copy("misbehaving")
    assert _capture(forks, here, _GOT_OVER[name]) == (0, "")
    assert here.remains() == []
    assert expected.differences(_without_refusals(here)) == []


_FAILING = _PASSING | _REFUSED


@pytest.mark.parametrize("trap", _FAILING if _ALL else ["504", "a stall", "another column"])
def test_a_capture_that_fails_says_why_and_the_next_one_is_complete(
    trap: str, forks: Forks, before: Installation, expected: State
) -> None:
    traps, said = _FAILING[trap]
    here = before.copy("misbehaving")
    code, error = _capture(forks, here, _every(traps, 1))
    assert code == 1
    assert error.startswith(f"publication_t1: {WEEK}: ")
    assert said in error
    assert here.state().tables["publication"] == []
    assert _capture(forks, here, _PAGES, is_again=True) == (0, "")
    assert here.remains() == []
    assert expected.differences(_without_refusals(here)) == []
