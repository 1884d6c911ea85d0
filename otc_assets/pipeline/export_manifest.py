"""The manifest of the exported data set: which file each week of each table has, and the changes that led to it.

It decides what the data set is, and is written last. How readers use it is in docs/export.md; writing files is in
``export``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

from otc_assets.domain.parquet import exported_tables, order_of
from otc_assets.errors import OtcError

MANIFEST, DATA_PACKAGE = "manifest.json", "datapackage.json"
#: The weeks of which files are being replaced: after a crash, their files need not be those of the manifest.
UNFINISHED = "_unfinished.json"

_FORMAT = "otc-assets export 1"


class UnreadableManifest(OtcError):
    """The manifest is not one of this program's."""


@dataclass(frozen=True)
class File:
    """A file of the data set: where it is, and its content.

    Attributes:
        path: its name below the address of the data set.
        size: in bytes.
        sha256: its digest.
    """

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: str, content: bytes) -> File:
        """The entry of a file with ``content``."""
        return cls(path, len(content), hashlib.sha256(content).hexdigest())

    def is_of(self, content: bytes) -> bool:
        """Whether ``content`` is that of the file."""
        return hashlib.sha256(content).hexdigest() == self.sha256


@dataclass(frozen=True)
class Changes(File):
    """A change file: how the rows of a week came from one manifest to a later one.

    Attributes:
        after: the number of the manifest whose rows it is applied to.
        number: the number of the manifest whose rows result.
        added, changed, removed: the number of such rows.
    """

    after: int
    number: int
    added: int
    changed: int
    removed: int


@dataclass(frozen=True)
class Week(File):
    """A week of a table.

    Attributes:
        number: the number of the manifest that was the first with these rows.
        version: what the rows were computed from.
        rows: their number.
        changes: the change files that lead to these rows, oldest first, each beginning where the one before it ends.
    """

    number: int
    version: str
    rows: int
    changes: tuple[Changes, ...] = ()


@dataclass
class Manifest:
    """The state of a data set.

    Attributes:
        id: of the data set; another one after the manifest was lost.
        number: raised whenever the manifest is written.
        weeks: by table and week, what is exported.
    """

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    number: int = 0
    weeks: dict[str, dict[dt.date, Week]] = field(default_factory=dict)

    def of_week(self, week_ending: dt.date) -> dict[str, Week]:
        """By table, what is exported of a week."""
        return {table: weeks[week_ending] for table, weeks in self.weeks.items() if week_ending in weeks}

    def paths(self) -> dict[str, list[str]]:
        """By table, its files, oldest week first."""
        return {table: [weeks[week].path for week in sorted(weeks)] for table, weeks in self.weeks.items()}

    def to_json(self, now: dt.datetime) -> bytes:
        """The file ``manifest.json``."""
        declared = exported_tables()
        tables = {
            name: {
                "key": ["week_ending", *order_of(declared[name])] if name in declared else [],
                "weeks": {str(week): asdict(weeks[week]) for week in sorted(weeks)},
            }
            for name, weeks in sorted(self.weeks.items())
        }
        content = {"format": _FORMAT, "id": self.id, "number": self.number, "written_at": str(now), "tables": tables}
        return json.dumps(content, indent=1).encode()

    @classmethod
    def parse(cls, content: bytes, where: str) -> Manifest:
        """The manifest in a file.

        Raises:
            UnreadableManifest: it is damaged, or of another program or version.
        """
        try:
            found = json.loads(content)
            if found["format"] != _FORMAT:
                raise ValueError(found["format"])
            weeks = {
                table: {dt.date.fromisoformat(week): _week(entry) for week, entry in of_table["weeks"].items()}
                for table, of_table in found["tables"].items()
            }
            return cls(found["id"], found["number"], weeks)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableManifest(
                f"{where} is not a manifest of this version ({type(error).__name__})",
                remedy="Restore it, or delete it: the next export then writes all weeks, and readers copy them again.",
            ) from None


def _week(entry: dict[str, Any]) -> Week:
    return Week(**{**entry, "changes": tuple(Changes(**changes) for changes in entry["changes"])})
