"""Types of fields that publications and events have in common."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

from otc_assets.domain.weeks import TIER_BY_NAME


def one_of(*values: str) -> AfterValidator:
    """A validator of texts that must be one of ``values``."""
    return AfterValidator(lambda text: known(text, values))


def known(text: str, values: Sequence[str]) -> str:
    """The text, if it is one of ``values``.

    Raises:
        ValueError: it is not.
    """
    if text not in values:
        raise ValueError(f"{text!r} is not one of {', '.join(values)}")
    return text


TierName = Annotated[str, one_of(*TIER_BY_NAME)]
#: An exact number of shares, in plain digits: '22.000000'.
Shares = Annotated[Decimal, PlainSerializer(lambda value: f"{value:f}", return_type=str, when_used="json")]
Count = Annotated[int, Field(ge=0)]
#: The duration of the work that an event reports.
Seconds = Annotated[float, Field(ge=0)]
