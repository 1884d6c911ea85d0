"""Reads the rows of a data set's period: delimited text with a header, as the Query API sends it.

Every row is accepted or rejected with a reason; nothing is corrected. Which data sets there are is in ``datasets``.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import polars as pl

from otc_assets.domain.datasets import Dataset, Field
from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.schema import REJECTED
from otc_assets.domain.values import BadValue, typed

_DELIMITER = "|"
_REMEDY = "If this lasts, FINRA has changed its fields, and this software has to be adapted."


@dataclass(frozen=True)
class DatasetRows:
    """The rows of a period.

    Attributes:
        accepted: with the columns of the data set's table.
        rejected: REJECTED.
    """

    accepted: pl.DataFrame
    rejected: pl.DataFrame

    @property
    def received(self) -> int:
        """The number of rows received."""
        return self.accepted.height + self.rejected.height


def read_dataset(dataset: Dataset, period: dt.date, content: bytes) -> DatasetRows:
    """Reads the bytes of a period.

    Raises:
        UnreadableFile: they are not text, or lack a field of the data set.
    """
    title = f"{dataset.name} {period}"
    try:
        header, *lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UnreadableFile(title, f"not UTF-8 text ({error})", _REMEDY) from None
    names = header.rstrip("\r").split(_DELIMITER)
    if missing := [field.name for field in dataset.fields if field.name not in names]:
        raise UnreadableFile(title, f"the header lacks {', '.join(missing)}", _REMEDY, line=1)
    places = {field: names.index(field.name) for field in dataset.fields}
    accepted: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    first: dict[tuple[Any, ...], int] = {}
    for number, text in enumerate(lines, 2):
        record = text.removesuffix("\r")
        if not record:
            continue
        try:
            cells = record.split(_DELIMITER)
            if len(cells) != len(names):
                raise BadValue(f"the row has {len(cells)} fields, and the header {len(names)}")
            row = {field.column: _value(field, cells[at]) for field, at in places.items()}
            _require(dataset, row, period)
            key = tuple(row[column] for column in dataset.key)
            if (line := first.setdefault(key, number)) != number:
                raise BadValue(f"duplicate of line {line}")
        except BadValue as error:
            rejected.append({"line": number, "record": record, "reason": str(error)})
        else:
            accepted.append(row)
    frame = pl.DataFrame(accepted, schema=pl.Schema({field.column: field.kind for field in dataset.fields}))
    week = pl.lit(dataset.week_of(period)).alias("week_ending")
    return DatasetRows(frame.select(week, pl.all()), pl.DataFrame(rejected, schema=REJECTED))


def _value(field: Field, text: str) -> Any:
    value = typed(text, field.kind, field.name)
    return field.absent if value is None else value


def _require(dataset: Dataset, row: dict[str, Any], period: dt.date) -> None:
    """Refuses a row of another period, and one that lacks a value or has a negative one."""
    if row[dataset.period] != period:
        raise BadValue(f"{dataset.fields[0].name} is {row[dataset.period]}, not {period}")
    for field in dataset.fields:
        value = row[field.column]
        if value is None and field.column in (*dataset.key, *dataset.required):
            raise BadValue(f"{field.name} is empty")
        if value is not None and field.kind.is_numeric() and not field.signed and value < 0:
            raise BadValue(f"{field.name} is {value}, which is negative")
