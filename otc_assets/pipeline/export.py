"""Exports weeks as Parquet files to a folder or S3, verifies them, and finds the weeks that have to be exported again.

How a file is written is in ``domain.parquet``, what the manifest says in ``export_manifest``, and how readers follow
the data set in docs/export.md.
"""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from otc_assets import interruption
from otc_assets.archive.opening import open_archive
from otc_assets.archive.store import Archive, DamagedObject, MissingObject
from otc_assets.archive_url import ArchiveUrl
from otc_assets.domain.data_package import data_package
from otc_assets.domain.enums import RowChange
from otc_assets.domain.parquet import (
    ADDED,
    CHANGE,
    exported_tables,
    from_parquet,
    in_file_order,
    layout_of,
    row_changes,
    to_parquet,
)
from otc_assets.domain.quality.exports import Exported
from otc_assets.errors import OtcError
from otc_assets.pipeline.export_manifest import DATA_PACKAGE, MANIFEST, UNFINISHED, Changes, File, Manifest, Week
from otc_assets.pipeline.results import WeekResult
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.exports import export_lock, export_versions, snapshot
from otc_assets.warehouse.read import week_count, week_rows

_REMEDIES = {
    errno.ENOSPC: "The disk is full. Free space and export again: what is exported is not written again.",
    errno.EDQUOT: "The quota is used up. Free space and export again: what is exported is not written again.",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "This account may not write there. Grant the right, or name another folder (OTC_EXPORT_URL, --to).",
    ),
}


class ExportFailed(OtcError):
    """A file of the data set can't be written or read."""


class Target:
    """Where the data set is.

    Args:
        url: a folder, or a prefix in an S3 bucket.
    """

    def __init__(self, url: ArchiveUrl) -> None:
        self.url = url

    @cached_property
    def _store(self) -> Archive:
        return open_archive(self.url, "OTC_EXPORT_URL")

    def prepare(self) -> None:
        """Checks that S3 can be reached, and removes what killed processes left half-written in a folder."""
        with self._errors(""):
            self._store.prepare()

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is none, and nothing (no bytes) if S3 finds it damaged.

        Raises:
            ExportFailed: the folder can't be read.
            ArchiveUnavailable: S3 can't be reached.
        """
        with self._errors(path):
            try:
                return self._store.get_named(path)
            except MissingObject:
                return None
            except DamagedObject:
                return b""  # no file of the data set is empty: this has no file's digest

    def write(self, path: str, content: bytes) -> File:
        """Writes a file completely or not at all; one of that name is replaced.

        Raises:
            ExportFailed: the folder can't be written.
            ArchiveUnavailable: S3 can't be reached.
        """
        with self._errors(path):
            self._store.put_named(path, content)
        return File.of(path, content)

    def manifest(self) -> Manifest:
        """The manifest; an empty one where nothing is exported yet."""
        content = self.read(MANIFEST)
        return Manifest() if content is None else Manifest.parse(content, f"{self.url}/{MANIFEST}")

    def unfinished(self) -> set[dt.date]:
        """The weeks of which an export did not end."""
        return {dt.date.fromisoformat(week) for week in json.loads(self.read(UNFINISHED) or b"[]")}

    def set_unfinished(self, weeks: Collection[dt.date]) -> None:
        """Records the weeks of which an export has not ended."""
        self.write(UNFINISHED, json.dumps(sorted(map(str, weeks))).encode())

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "Correct this, or name another folder (OTC_EXPORT_URL, --to).")
            raise ExportFailed(f"{self.url}/{path}: {error.strerror}", remedy=remedy) from None


def weeks_to_export(
    database: Database, target: Target, tables: Collection[str] | None = None
) -> dict[dt.date, dict[str, str]]:
    """By week, the tables whose rows have another version than the exported ones, with that version.

    A week of which an export did not end is there also without such tables.
    """
    manifest, unfinished = target.manifest(), target.unfinished()
    with snapshot(database) as connection:
        versions = export_versions(connection)
    weeks = versions.keys() | {week for of_table in manifest.weeks.values() for week in of_table}
    found = {
        week: _to_export(_current(versions.get(week, {}), manifest, week), manifest, week, tables)
        for week in sorted(weeks)
    }
    return {week: wanted for week, wanted in found.items() if wanted or week in unfinished}


def _current(versions: dict[str, str], manifest: Manifest, week_ending: dt.date) -> dict[str, str]:
    """By table, the versions of a week, with those of exported tables that have no rows any more, and no retention."""
    exported = manifest.of_week(week_ending)
    closed = {
        name: f"no rows {layout_of(table)}"
        for name, table in exported_tables().items()
        if name in exported and name not in versions and table.retention is None
    }
    return versions | closed


def _to_export(
    versions: dict[str, str], manifest: Manifest, week_ending: dt.date, tables: Collection[str] | None
) -> dict[str, str]:
    """The tables to export of a week, with their versions."""
    exported = manifest.of_week(week_ending)
    return {
        name: version
        for name, version in versions.items()
        if (tables is None or name in tables) and (name not in exported or exported[name].version != version)
    }


def export_week(
    week_ending: dt.date,
    database: Database,
    target: Target,
    now: dt.datetime,
    tables: Collection[str] | None = None,
    *,
    repair: bool = False,
) -> WeekResult:
    """Writes the files of a week whose rows have another version than the exported ones, and then the manifest.

    Args:
        week_ending: the week.
        database: the installation's; it is only read.
        target: where the data set is.
        now: the time, for the manifest.
        tables: only these; None for all.
        repair: also write files again that are missing or damaged.

    Raises:
        ExportFailed: the folder can't be written. Exporting again continues.
        ArchiveUnavailable: S3 can't be reached.
        Interrupted: a signal ended the command.
    """
    written: dict[str, Week] = {}
    with export_lock(database, str(target.url)):
        manifest, unfinished = target.manifest(), target.unfinished()
        # After the lock: the snapshot is not older than what another process has exported.
        with snapshot(database) as connection:
            stored = export_versions(connection, week_ending, week_ending).get(week_ending, {})
            versions = _current(stored, manifest, week_ending)
            wanted = _to_export(versions, manifest, week_ending, tables)
            if repair or week_ending in unfinished:
                for name, week in manifest.of_week(week_ending).items():
                    if name in versions and not all(_is_intact(file, target) for file in (week, *week.changes)):
                        wanted[name] = versions[name]
                        manifest.weeks[name][week_ending] = replace(week, changes=())
            if wanted:
                target.set_unfinished(unfinished | {week_ending})
            for name, version in wanted.items():
                interruption.check()
                rows = in_file_order(exported_tables()[name], week_rows(connection, name, [week_ending]))
                before = manifest.weeks.get(name, {}).get(week_ending)
                written[name] = _write_week(name, week_ending, rows, version, before, manifest.number + 1, target)
        if written:
            manifest.number += 1
            for name, week in written.items():
                manifest.weeks.setdefault(name, {})[week_ending] = week
            _write_package(manifest, target)
            target.write(MANIFEST, manifest.to_json(now))
        if written or week_ending in unfinished:
            target.set_unfinished(unfinished - {week_ending})
    return _result(manifest, week_ending, written, target)


def _is_intact(file: File, target: Target) -> bool:
    content = target.read(file.path)
    return content is not None and file.is_of(content)


def _write_week(
    name: str, week_ending: dt.date, rows: pl.DataFrame, version: str, before: Week | None, number: int, target: Target
) -> Week:
    """Writes the file of a week, and before it the file of what has changed since the rows of the manifest.

    A file of the same rows and layout stays. There is no change file if the one before is not that of the manifest, or
    has other columns, or if the new file is smaller: readers then copy the new one.
    """
    content, old = to_parquet(rows), None
    changes: tuple[Changes, ...] = ()
    if before is not None:
        stored = target.read(before.path)
        old = from_parquet(stored) if stored is not None and before.is_of(stored) else None
    if before is not None and old is not None and old.schema == rows.schema:
        differ = row_changes(exported_tables()[name], old, rows)
        if differ.is_empty() and before.version.endswith(layout_of(exported_tables()[name])):
            return replace(before, version=version)
        changed = to_parquet(differ)
        counts = dict(differ.group_by(CHANGE).len().iter_rows())
        if not differ.is_empty() and len(changed) < len(content):
            path = f"_changes/{name}/week_ending={week_ending}/{number:08}.parquet"
            file = target.write(path, changed)
            latest = Changes(
                **vars(file),
                after=before.number,
                number=number,
                added=counts.get(ADDED, 0),
                changed=counts.get(RowChange.CHANGED, 0),
                removed=counts.get(RowChange.REMOVED, 0),
            )
            changes = _worth_reading((*before.changes, latest), len(content))
    file = target.write(f"{name}/week_ending={week_ending}/part.parquet", content)
    return Week(**vars(file), number=number, version=version, rows=rows.height, changes=changes)


def _worth_reading(changes: tuple[Changes, ...], size: int) -> tuple[Changes, ...]:
    """The newest of ``changes`` that are together smaller than the file: a reader who lacks more copies the file."""
    kept: list[Changes] = []
    for each in reversed(changes):
        size -= each.size
        if size <= 0:
            break
        kept.insert(0, each)
    return tuple(kept)


def _write_package(manifest: Manifest, target: Target) -> None:
    """Writes the description of the data set, if it is another one."""
    content = json.dumps(data_package(manifest.paths()), indent=1).encode()
    if target.read(DATA_PACKAGE) != content:
        target.write(DATA_PACKAGE, content)


def _result(manifest: Manifest, week_ending: dt.date, written: dict[str, Week], target: Target) -> WeekResult:
    of_week = manifest.of_week(week_ending)
    text = "\n".join(f"{name}={week.version}" for name, week in sorted(of_week.items()))
    files = [week for week in written.values() if week.number == manifest.number]
    details = {
        "path": f"{target.url}/*/week_ending={week_ending}/part.parquet",
        "bytes": sum(week.size for week in of_week.values()),
        "files": len(of_week),
        "files written": len(files),
        "bytes written": sum(week.size for week in files),
        "manifest": manifest.number,
    }
    rows = sum(week.rows for week in of_week.values())
    return WeekResult(rows, hashlib.sha256(text.encode()).hexdigest()[:16], details)


def exported_files(database: Database, target: Target, week_ending: dt.date) -> list[Exported]:
    """Reads the files of a week back: the evidence of the checks, one per table."""
    with export_lock(database, str(target.url)):
        manifest = target.manifest()
        with snapshot(database) as connection:
            stored = export_versions(connection, week_ending, week_ending).get(week_ending, {})
            versions = _current(stored, manifest, week_ending)
            found = []
            for name, week in sorted(manifest.of_week(week_ending).items()):
                content = target.read(week.path)
                is_current = versions.get(name) == week.version
                intact = content is not None and week.is_of(content)
                found.append(
                    Exported(
                        table=name,
                        intact=intact,
                        rows=from_parquet(content).height if intact and content is not None else None,
                        stored=week_count(connection, name, week_ending) if is_current else None,
                    )
                )
    return found


@dataclass(frozen=True)
class Problem:
    """A file that does not agree with the manifest.

    Attributes:
        path: the file.
        problem: 'missing' or 'damaged'.
    """

    path: str
    problem: str


def verify(target: Target) -> Iterator[Problem | None]:
    """Compares each file of the manifest with its digest: None for a file that agrees.

    Raises:
        ExportFailed: the folder can't be read.
        ArchiveUnavailable: S3 can't be reached.
    """
    manifest = target.manifest()
    for weeks in manifest.weeks.values():
        for week in weeks.values():
            for file in (week, *week.changes):
                interruption.check()
                content = target.read(file.path)
                problem = "missing" if content is None else "" if file.is_of(content) else "damaged"
                yield Problem(file.path, problem) if problem else None
