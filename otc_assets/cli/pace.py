"""How fast a long command is, in words: a rate, and the time that is left. Measuring the time is up to the caller."""

from __future__ import annotations

#: Before that, a rate would be that of the start.
_FROM_SECONDS = 10


def pace(done: int, of: int, seconds: float) -> str:
    """The rate so far and about how long the rest will take; empty where neither can be said yet.

    Args:
        done: how many are done, since ``seconds`` ago.
        of: how many there are in all.
        seconds: how long these took.

    >>> pace(30, 120, 60)
    '30 a minute, about 3 minutes left'
    >>> pace(2, 300, 7200)
    '1.0 an hour, about 298 hours left'
    >>> pace(0, 120, 60)
    ''
    """
    if done <= 0 or seconds < _FROM_SECONDS:
        return ""
    each = seconds / done
    rate = f"{60 / each:,.0f} a minute" if each <= 30 else f"{3600 / each:,.1f} an hour"
    if done >= of:
        return rate
    left = (of - done) * each
    if left < 90:
        return f"{rate}, about a minute left"
    if left < 2 * 3600:
        return f"{rate}, about {left / 60:.0f} minutes left"
    return f"{rate}, about {left / 3600:,.0f} hours left"
