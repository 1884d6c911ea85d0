"""The checks of the exported Parquet files. Each takes what was read back of a week, and returns one finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from otc_assets.domain.quality.evidence import Finding, none_of


@dataclass(frozen=True)
class Exported:
    """A file of the export, as it was read back.

    Attributes:
        table: the table.
        intact: whether the file is there, with the digest that the manifest has.
        rows: the rows in the file; None if it is not intact.
        stored: the rows in the table; None if the file was written from another version, and is exported again, or if
            the table has lost the week.
    """

    table: str
    intact: bool
    rows: int | None
    stored: int | None


def files_match_manifest(files: Sequence[Exported]) -> Finding:
    """Judges whether each file of the week has the digest that the manifest has."""
    damaged = [file.table for file in files if not file.intact]
    named = f"; missing or damaged: {', '.join(damaged)}" if damaged else ""
    return none_of(len(damaged), f"{len(files)} files{named}")


def rows_match_tables(files: Sequence[Exported]) -> Finding:
    """Judges whether each intact file has as many rows as its table, where both are of the same version."""
    compared = [file for file in files if file.rows is not None and file.stored is not None]
    differ = [f"{file.table} {file.rows:,} of {file.stored:,}" for file in compared if file.rows != file.stored]
    named = f"; rows in file and table differ: {', '.join(differ)}" if differ else ""
    return none_of(len(differ), f"{sum(file.rows or 0 for file in compared):,} rows in {len(compared)} files{named}")
