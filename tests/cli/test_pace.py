"""The pace of a long command in words."""

from __future__ import annotations

import pytest

from otc_assets.cli.pace import pace


@pytest.mark.parametrize(
    ("done", "of", "seconds", "said"),
    [
        (30, 120, 60, "30 a minute, about 3 minutes left"),
        (119, 120, 60, "119 a minute, about a minute left"),
        (120, 120, 60, "120 a minute"),
        (10, 730, 3_600, "10.0 an hour, about 72 hours left"),
        (8_840, 17_680, 3_600, "147 a minute, about 60 minutes left"),
    ],
)
def test_the_pace_is_a_rate_and_the_time_that_is_left(done: int, of: int, seconds: float, said: str) -> None:
    assert pace(done, of, seconds) == said


@pytest.mark.parametrize(("done", "seconds"), [(0, 600), (5, 9)])
def test_no_pace_is_said_before_something_is_done_for_some_seconds(done: int, seconds: float) -> None:
    assert pace(done, 100, seconds) == ""
