"""Text for people: text from outside made safe to show, shortened texts, and the first line of an error.

How text is laid out on a terminal is in ``cli.terminal``.
"""

from __future__ import annotations

import os
import unicodedata

#: Characters that reverse the direction of text, so that a name can look like another one.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def is_unsafe(character: str) -> bool:
    """Whether a terminal or a browser would act on ``character``, or could not show it."""
    return character in _DIRECTION or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def printable(text: str, *, keep: str = "\n\t") -> str:
    """``text`` with its unsafe characters escaped.

    Args:
        text: any text, also with lone surrogates.
        keep: control characters that stay.

    >>> printable("T1 \\x1b[2J.csv")
    'T1 \\\\x1b[2J.csv'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not is_unsafe(c) else c.encode("unicode_escape").decode() for c in text)


def printable_name(name: str) -> str:
    """A file's name for people, logs and the database: unsafe characters, and bytes that are not UTF-8, are escaped."""
    return printable(os.fsencode(name).decode("utf-8", "backslashreplace"), keep="")


def shortened(text: str, length: int) -> str:
    """A text of at most ``length`` characters, with an ellipsis if it was longer."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def first_line(error: BaseException | None) -> str:
    """The first line of an error's message; the name of its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
