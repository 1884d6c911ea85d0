"""The forms of values in requests: patterns, which the description of the API has, and in words, for problems."""

from __future__ import annotations

_DAY = r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
WEEKS = rf"^({_DAY}|{_DAY}\.\.|\.\.{_DAY}|{_DAY}\.\.{_DAY}|last [1-9]\d{{0,3}}|newest)$"
_TIME = r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-](0\d|1[0-3]):[0-5]\d)"
MOMENT, DAY_OR_MOMENT = rf"^{_DAY}{_TIME}$", rf"^{_DAY}({_TIME})?$"
NAMES, ONE_NAMES = r"^[^\x00-\x1f,]+$", r"^[^\x00-\x1f/]+$"

#: Of each pattern, what it takes, in words.
_A_MOMENT = "a moment with a time zone, as in 2026-09-30T18:00:00-04:00"
FORMS = {
    WEEKS: "Write a day (2026-08-21), a range (2026-08-07..2026-08-28, 2026-08-07.. or ..2026-08-28), 'last 12' or "
    "'newest'; several are separated by commas.",
    MOMENT: f"Write {_A_MOMENT}.",
    DAY_OR_MOMENT: f"Write a day, as in 2026-09-30, or {_A_MOMENT}.",
    NAMES: "Write 1 to 100 characters, without control characters.",
    ONE_NAMES: "Write 1 to 100 characters, without slashes and control characters.",
}
