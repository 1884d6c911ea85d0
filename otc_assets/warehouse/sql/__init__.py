"""Named SQL statements, one per file, and nothing else.

Every file begins with a comment that says what the statement returns or changes. Values are bound by name
(``:week_ending``). Statements of a line or two stay in the module that runs them; tables are in ``migrations``.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import LiteralString, cast

import sqlalchemy as sa


@cache
def text(name: str, package: str = __name__) -> LiteralString:
    """The text of ``<name>.sql``: a part of this code, never a user's input."""
    return cast(LiteralString, (files(package) / f"{name}.sql").read_text())


@cache
def statement(name: str) -> sa.TextClause:
    """The statement in ``<name>.sql``, to be executed with bound parameters."""
    return sa.text(text(name))
