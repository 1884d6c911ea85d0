"""How much the tests of faults try: ``OTC_TEST_FAULTS``, which ``make faults LEVEL=...`` sets."""

from __future__ import annotations

import os
from enum import StrEnum


class Extent(StrEnum):
    """How much is tried."""

    SAMPLE = "sample"  # some kinds of points, of two assets
    KINDS = "kinds"  # one case of every kind of point, of all assets
    ALL = "all"  # every fault at every point


EXTENT = Extent(os.environ.get("OTC_TEST_FAULTS", Extent.SAMPLE))
