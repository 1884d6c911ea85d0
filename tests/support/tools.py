"""Tools that tests need beyond Python: what is said where one is missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str, remedy: str) -> NoReturn:
    """Skips the test, or fails it where OTC_REQUIRE_ALL_TOOLS says that everything is there.

    Args:
        what: what is missing.
        remedy: what to install or to set.
    """
    if os.environ.get("OTC_REQUIRE_ALL_TOOLS") == "1":
        pytest.fail(f"{what}, and OTC_REQUIRE_ALL_TOOLS is set: {remedy}", pytrace=False)
    pytest.skip(f"{what}: {remedy}")
