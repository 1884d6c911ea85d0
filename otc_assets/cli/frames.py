"""Frames on the terminal and in files: a table, CSV, JSON, Parquet or Excel."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otc_assets.cli.output import err, out
from otc_assets.cli.private_files import users_files
from otc_assets.errors import OtcError

if TYPE_CHECKING:
    import polars as pl

#: A table on the terminal has at most so many rows, unless --limit says otherwise.
_TABLE_ROWS = 100
#: The rows of a sheet, the headings included.
_SHEET_ROWS = 1_048_576


class Format(StrEnum):
    """How rows are shown."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    EXCEL = "excel"


_BY_SUFFIX = {".csv": Format.CSV, ".json": Format.JSON, ".parquet": Format.PARQUET, ".xlsx": Format.EXCEL}


class CannotWrite(OtcError):
    """The rows can't be written as asked. The message says why."""


def format_of(shown: Format | None, output: Path | None) -> Format:
    """The format that is meant.

    Raises:
        CannotWrite: the file's name does not say, or the format needs a file.
    """
    if shown is None and output is not None:
        if output.suffix.lower() not in _BY_SUFFIX:
            raise CannotWrite(f"{output}: the format is not clear", remedy="Name it with --format.")
        return _BY_SUFFIX[output.suffix.lower()]
    chosen = shown or Format.TABLE
    if output is not None and chosen == Format.TABLE:
        raise CannotWrite("a table is for the terminal", remedy="Use --format csv, json, parquet or excel.")
    if output is None and chosen in (Format.PARQUET, Format.EXCEL):
        raise CannotWrite(f"{chosen} needs a file", remedy="Name it with --output.")
    return chosen


def table_rows(shown: Format | None, output: Path | None) -> int | None:
    """The number of rows at which a table ends; None for other formats."""
    return _TABLE_ROWS if format_of(shown, output) == Format.TABLE else None


def show(frame: pl.DataFrame, shown: Format | None, output: Path | None, most: int | None) -> None:
    """Prints rows, or writes them to a file.

    Args:
        frame: the rows.
        shown: the format that was asked for.
        output: the file that was asked for.
        most: the number of rows at which a table ends.
    """
    chosen = format_of(shown, output)
    if output is not None:
        try:
            with users_files():
                _WRITERS[chosen](frame, output)
        except OSError as error:
            raise CannotWrite(f"{output}: {error.strerror or error}") from None
        err.print(f"{output}: {frame.height:,} rows")
    elif chosen == Format.CSV:
        sys.stdout.write(frame.write_csv())
    elif chosen == Format.JSON:
        out.print_as_json(_records(frame))
    else:
        _print_table(frame, most)


def _print_table(frame: pl.DataFrame, most: int | None) -> None:
    if frame.is_empty():
        err.print("no rows")
        return
    shown = frame if most is None else frame.head(most)
    right = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    columns, cells = shown.columns, _cells(shown)
    if len(cells) > 1 and _that_fit(columns, cells) < len(columns):
        # What is the same in every row is said once, so that there is room for what differs.
        same = [name for name in columns if shown[name].n_unique() == 1]
        if len(same) < len(columns):
            err.print(f"In every row: {', '.join(f'{name} {_said(shown[name][0])}' for name in same)}" if same else "")
            shown = shown.drop(same)
            columns, cells = shown.columns, _cells(shown)
    count = _that_fit(columns, cells) if len(cells) > 1 else len(columns)
    out.print_table(columns[:count], [row[:count] for row in cells], right=right)
    if left_out := columns[count:]:
        wider = "make the terminal wider" if out.is_terminal else "set COLUMNS=200"
        err.print(
            f"\nThe table has no room for {', '.join(left_out)}. Choose fewer columns, {wider}, or "
            "write a file: --output rows.csv"
        )
    if shown.height < frame.height:
        err.print(f"\nThe first {shown.height} rows. More: --limit, --weeks, or a file: --output rows.csv")


def _cells(frame: pl.DataFrame) -> list[list[Any]]:
    return [[_cell(value) for value in row] for row in frame.iter_rows()]


def _said(value: Any) -> str:
    return "empty" if value is None or value == "" else str(_cell(value))


def _that_fit(columns: Sequence[str], cells: Sequence[Sequence[Any]]) -> int:
    """How many of the columns, from the left, fit side by side; the first always."""
    room = out.width
    for number, name in enumerate(columns):
        room -= max(
            len(name),
            *(len(f"{row[number]:,}" if isinstance(row[number], int) else str(row[number] or "")) for row in cells),
        )
        if room < 0 and number:
            return number
        room -= 2  # between columns
    return len(columns)


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        text = f"{value:,f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return value


def _records(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: decimals as text, which keeps them exact."""
    return list(frame.iter_rows(named=True))


def _write_excel(frame: pl.DataFrame, output: Path) -> None:
    if frame.height >= _SHEET_ROWS:
        raise CannotWrite(
            f"a sheet has {_SHEET_ROWS:,} rows at most, and these are {frame.height:,}",
            remedy="Ask for fewer weeks, or write CSV or Parquet.",
        )
    import xlsxwriter

    # A text that begins with "=" is no formula, and Excel has no number for NaN and infinity.
    options = {"remove_timezone": True, "strings_to_formulas": False, "nan_inf_to_errors": True}
    with xlsxwriter.Workbook(output, options) as workbook:
        frame.write_excel(workbook, worksheet="rows", autofit=True, freeze_panes=(1, 0))


def _write_json(frame: pl.DataFrame, output: Path) -> None:
    output.write_text(json.dumps(_records(frame), default=str, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_WRITERS: dict[Format, Callable[[pl.DataFrame, Path], object]] = {
    Format.CSV: lambda frame, output: frame.write_csv(output),
    Format.JSON: _write_json,
    Format.PARQUET: lambda frame, output: frame.write_parquet(output),
    Format.EXCEL: _write_excel,
}
