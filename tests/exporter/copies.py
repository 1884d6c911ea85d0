"""The type of a fixture that several test modules use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

#: Makes a copy of a database for as long as a block runs, and gives its URL.
Copy = Callable[[], AbstractContextManager[str]]
