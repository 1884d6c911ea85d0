"""Tools that tests need beyond Python: skipping or failing a test if one is missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str, remedy: str) -> NoReturn:
    """Skips the test, or fails it if OTC_REQUIRE_ALL_TOOLS is set.

    Args:
        what: what is missing.
        remedy: what to install or to set.
    """
    if os.environ.get("OTC_REQUIRE_ALL_TOOLS") == "1":
        pytest.fail(f"{what}, and OTC_REQUIRE_ALL_TOOLS is set: {remedy}", pytrace=False)
    pytest.skip(f"{what}: {remedy}")
