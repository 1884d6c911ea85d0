"""The exported Parquet files: read by DuckDB and Polars, replaced as a whole, followed by the program of the docs."""

from __future__ import annotations

import datetime as dt
import io
import json
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.s3_server import S3Server

from otc_assets.archive.s3 import S3Archive
from otc_assets.archive.store import DamagedObject
from otc_assets.archive_url import ArchiveUrl, parse_archive_url
from otc_assets.domain import parquet
from otc_assets.domain.datasets import REG_SHO_DAILY as DATASET
from otc_assets.domain.parquet import columns_of, exported_tables, in_file_order, to_parquet
from otc_assets.domain.weeks import use_closures
from otc_assets.pipeline.calendar import compute_calendar
from otc_assets.pipeline.export import Problem, Target, export_week, exported_files, verify, weeks_to_export
from otc_assets.pipeline.export_manifest import File, UnreadableManifest
from otc_assets.settings import PROJECT_ROOT
from otc_assets.warehouse.database import Database
from otc_assets.warehouse.load import replace_week
from otc_assets.warehouse.recount import mark_stale

Sql = psycopg.Connection[tuple[Any, ...]]

WEEK, EARLIER = dt.date(2026, 8, 21), dt.date(2026, 8, 14)
NOW = dt.datetime(2026, 10, 1, tzinfo=dt.UTC)
TABLE = exported_tables()["venue_share"]
COLUMNS = columns_of(TABLE)

#: The programs of docs/export.md: ``follow`` and its exception.
(_READER,) = [
    block
    for block in re.findall(r"```python\n(.*?)```", (PROJECT_ROOT / "docs/export.md").read_text(), re.S)
    if "def follow" in block
]
DOCS: dict[str, Any] = {}
exec(compile(_READER, "docs/export.md", "exec"), DOCS)  # noqa: S102

Row = dict[str, Any]
State = dict[str, Row]


def venue(number: int) -> Row:
    """A row of ``venue_share``, without its week; the same for the same number, and unlike others, so that it takes
    room in a file."""
    some = random.Random(number)  # noqa: S311
    amount = Decimal(some.randrange(10**15)).scaleb(-6)
    row: Row = dict.fromkeys(COLUMNS)
    row |= {"tier": some.choice(["NMS Tier 1", "OTC"]), "venue_id": f"V{number:04}", "venue_kind": "ATS"}
    row |= {"venue_name": some.choice([None, "", f'Name "{number}"\nof two lines']), "total_volume": amount}
    row |= {"total_trades": some.randrange(10**9), "symbol_count": number, "rank": number, "kind_rank": number}
    row |= {"market_share_pct": some.choice([None, Decimal("12.345678")]), "total_notional": amount * 3}
    return row


BASE: State = {row["venue_id"]: row for row in map(venue, range(150))}


def save(database: Database, week: dt.date, state: State, version: str) -> None:
    """Stores a week of ``venue_share`` as computed from ``version``."""
    rows = [{"week_ending": week, **row} for row in state.values()]
    with database.transaction() as connection:
        replace_week(connection, "venue_share", week, pl.DataFrame(rows, schema=TABLE.schema), version)


def stored(sql: Sql, week: dt.date) -> list[tuple[Any, ...]]:
    """What the database has of a week, in the order of the file."""
    query = f"SELECT {', '.join(COLUMNS)} FROM otc.venue_share WHERE week_ending = %s"  # noqa: S608
    return list(sql.execute(query + ' ORDER BY tier COLLATE "C", venue_id COLLATE "C"', [week]).fetchall())


@pytest.fixture
def warehouse(database: str) -> Iterator[Database]:
    opened = Database(database)
    yield opened
    opened.close()


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(ArchiveUrl(folder=tmp_path / "export"))


def export(database: Database, target: Target) -> list[dt.date]:
    """Exports what has changed, as the sensor and the command do. Returns the weeks."""
    weeks = list(weeks_to_export(database, target))
    for week in weeks:
        export_week(week, database, target, NOW)
    return weeks


def folder(target: Target) -> Path:
    assert target.url.folder is not None
    return target.url.folder


#: Revisions of a week: by number of a venue, the number of its new values, or None to remove it.
REVISIONS = st.lists(
    st.tuples(
        st.sampled_from([EARLIER, WEEK]),
        st.dictionaries(st.integers(0, 200), st.one_of(st.none(), st.integers(0, 400)), max_size=12),
        st.booleans(),  # whether the week is exported afterwards
        st.booleans(),  # whether the reader follows afterwards
    ),
    max_size=6,
)


@pytest.mark.slow
@examples(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(REVISIONS)
def test_a_reader_of_any_manifest_follows_the_changes_to_exactly_the_rows_of_the_newest(
    warehouse: Database, sql: Sql, tmp_path_factory: pytest.TempPathFactory, revisions: list[Any]
) -> None:
    sql.execute("TRUNCATE otc.venue_share, otc.venue_share_revision; DELETE FROM otc.computed_week")
    target = Target(ArchiveUrl(folder=tmp_path_factory.mktemp("export")))
    state = {EARLIER: dict(BASE), WEEK: dict(BASE)}
    for week, rows in state.items():
        save(warehouse, week, rows, "0")
    export(warehouse, target)
    copy: dict[Any, pl.DataFrame] = {}
    mine = DOCS["follow"](folder(target), copy)
    for number, (week, revision, exported, followed) in enumerate([*revisions, (WEEK, {}, True, True)], 1):
        for which, values in revision.items():
            name = f"V{which:04}"
            if values is None:
                state[week].pop(name, None)
            else:
                state[week][name] = venue(values) | {"venue_id": name}
        save(warehouse, week, state[week], str(number))
        if exported:
            export(warehouse, target)
        if followed:
            mine = DOCS["follow"](folder(target), copy, mine)
            if exported:
                for each in state:
                    assert copy["venue_share", str(each)].rows() == stored(sql, each)


def test_a_revision_is_followed_by_its_change_file_alone(warehouse: Database, sql: Sql, target: Target) -> None:
    save(warehouse, WEEK, BASE, "0")
    export(warehouse, target)
    copy: dict[Any, pl.DataFrame] = {}
    mine = DOCS["follow"](folder(target), copy)
    revised = {name: row for name, row in BASE.items() if name not in ("V0003", "V0004")}
    revised |= {"V0007": venue(500) | {"venue_id": "V0007", "tier": BASE["V0007"]["tier"]}, "V0300": venue(300)}
    save(warehouse, WEEK, revised, "1")
    assert export(warehouse, target) == [WEEK]
    week = target.manifest().weeks["venue_share"][WEEK]
    (changes,) = week.changes
    assert (changes.added, changes.changed, changes.removed) == (1, 1, 2)
    assert (changes.after, changes.number, week.number, week.rows) == (1, 2, 2, 149)
    (folder(target) / week.path).unlink()  # whoever reads the changes needs no more
    DOCS["follow"](folder(target), copy, mine)
    assert copy["venue_share", str(WEEK)].rows() == stored(sql, WEEK)
    found = pl.read_parquet(folder(target) / changes.path, hive_partitioning=False)
    assert found.filter(pl.col("change") == "removed")["venue_id"].sort().to_list() == ["V0003", "V0004"]


def test_a_week_of_the_same_version_or_the_same_rows_is_not_written_again(warehouse: Database, target: Target) -> None:
    save(warehouse, WEEK, BASE, "0")
    export(warehouse, target)
    path = folder(target) / f"venue_share/week_ending={WEEK}/part.parquet"
    before = path.stat().st_ino
    assert export(warehouse, target) == []
    save(warehouse, WEEK, BASE, "another capture of the same rows")
    assert export(warehouse, target) == [WEEK]
    assert path.stat().st_ino == before
    week = target.manifest().weeks["venue_share"][WEEK]
    assert (week.number, week.version.partition(" ")[0]) == (1, "another")
    assert export(warehouse, target) == []


def test_other_rows_of_the_same_version_are_exported(warehouse: Database, sql: Sql, target: Target) -> None:
    """After 'otc-assets rebuild' under a rule without a new code version, the files once stayed as they were."""
    save(warehouse, WEEK, BASE, "T1:1")
    export(warehouse, target)
    with warehouse.transaction() as connection:
        mark_stale(connection, WEEK)
    rebuilt = BASE | {"V0003": venue(500) | {"venue_id": "V0003"}}
    save(warehouse, WEEK, rebuilt, "T1:1")
    assert export(warehouse, target) == [WEEK]
    content = pl.read_parquet(folder(target) / f"venue_share/week_ending={WEEK}/part.parquet", hive_partitioning=False)
    assert content.rows() == stored(sql, WEEK)
    assert export(warehouse, target) == []


def test_a_closure_that_is_entered_later_is_exported_with_the_calendar_of_its_week(
    warehouse: Database, sql: Sql, target: Target
) -> None:
    """Each computation of the calendar has the same version."""
    compute_calendar(WEEK, warehouse)
    assert export(warehouse, target) == [WEEK]
    compute_calendar(WEEK, warehouse)
    assert export(warehouse, target) == []
    try:
        use_closures(frozenset({WEEK}))
        compute_calendar(WEEK, warehouse)
    finally:
        use_closures(frozenset())
    assert export(warehouse, target) == [WEEK]
    path = folder(target) / f"week_calendar/week_ending={WEEK}/part.parquet"
    assert pl.read_parquet(path, hive_partitioning=False)["trading_days"].to_list() == [4, 4, 4]


def test_exports_at_the_same_time_lose_nothing_of_each_other(
    warehouse: Database, database: str, target: Target
) -> None:
    weeks = [WEEK - dt.timedelta(weeks=number) for number in range(8)]
    for week in weeks:
        save(warehouse, week, BASE, "0")

    def export_some(some: list[dt.date]) -> None:
        own = Database(database)
        for week in some:
            export_week(week, own, Target(target.url), NOW)
        own.close()

    with ThreadPoolExecutor() as pool:
        list(pool.map(export_some, [weeks[::2], weeks[1::2], weeks]))
    assert sorted(target.manifest().weeks["venue_share"]) == sorted(weeks)
    assert (target.manifest().number, export(warehouse, target)) == (8, [])


def test_a_changed_layout_writes_the_same_rows_again(
    warehouse: Database, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(warehouse, WEEK, BASE, "0")
    export(warehouse, target)
    path = folder(target) / f"venue_share/week_ending={WEEK}/part.parquet"
    before = path.stat().st_ino
    monkeypatch.setattr(parquet, "_LAYOUT", "another")
    monkeypatch.setattr(parquet, "ROW_GROUP", 64)
    assert export(warehouse, target) == [WEEK]
    assert path.stat().st_ino != before
    assert pq.read_metadata(path).num_row_groups == 3
    week = target.manifest().weeks["venue_share"][WEEK]
    assert (week.number, week.changes, export(warehouse, target)) == (2, (), [])


class Crashing(Target):
    """A target whose process is killed before or after its nth write."""

    def __init__(self, url: ArchiveUrl, nth: int, *, after: bool) -> None:
        super().__init__(url)
        self._left, self._after = nth, after

    def write(self, path: str, content: bytes) -> File:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise KeyboardInterrupt
        file = super().write(path, content)
        if self._left == 0:
            raise KeyboardInterrupt
        return file


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("reverted", [False, True])
def test_a_crash_at_any_point_leaves_whole_weeks_and_the_next_export_corrects_them(
    warehouse: Database, sql: Sql, tmp_path: Path, after: bool, reverted: bool
) -> None:
    some = [venue(1000 + row["rank"]) | {"venue_id": row["venue_id"], "tier": row["tier"]} for row in BASE.values()]
    revised = dict(list(BASE.items())[10:]) | {row["venue_id"]: row for row in some[20:30]}
    crashes = 0
    for nth in range(1, 20):
        url = ArchiveUrl(folder=tmp_path / str(nth))
        save(warehouse, WEEK, BASE, "0")
        export(warehouse, Target(url))
        copy: dict[Any, pl.DataFrame] = {}
        mine = DOCS["follow"](url.folder, copy)
        old = stored(sql, WEEK)
        save(warehouse, WEEK, revised, "1")
        try:
            export_week(WEEK, warehouse, Crashing(url, nth, after=after), NOW)
        except KeyboardInterrupt:
            crashes += 1
        else:
            break
        # Who reads without the manifest finds the old rows or the new ones, and each once.
        glob = f"read_parquet('{url.folder}/venue_share/*/*.parquet', hive_partitioning = true)"
        found = duckdb.sql(f"SELECT {', '.join(COLUMNS)} FROM {glob} ORDER BY tier, venue_id").fetchall()
        assert found in (old, stored(sql, WEEK))
        # Who reads by the manifest finds the state of it, or notices.
        try:
            mine = DOCS["follow"](url.folder, copy, mine)
            assert copy["venue_share", str(WEEK)].rows() == (old if mine["number"] == 1 else stored(sql, WEEK))
        except DOCS["ReplacedMeanwhile"]:
            pass
        if reverted:  # the version is that of the manifest again, and the file need not be
            save(warehouse, WEEK, BASE, "0")
        export(warehouse, Target(url))
        assert list(filter(None, verify(Target(url)))) == []
        DOCS["follow"](url.folder, copy, mine)
        assert copy["venue_share", str(WEEK)].rows() == stored(sql, WEEK)
        assert duckdb.sql(f"SELECT count(*) FROM {glob}").fetchall() == [(len(stored(sql, WEEK)),)]
        assert export(warehouse, Target(url)) == []
    assert crashes == 5  # unfinished, changes, part, manifest, unfinished


def test_duckdb_and_polars_read_a_table_by_one_glob_with_exact_types(
    warehouse: Database, sql: Sql, target: Target
) -> None:
    for week in (EARLIER, WEEK):
        save(warehouse, week, BASE if week == WEEK else {}, "0")
    export(warehouse, target)
    glob = f"{folder(target)}/venue_share/*/*.parquet"
    by_duckdb = duckdb.sql(f"SELECT * FROM read_parquet('{glob}', hive_partitioning = true) ORDER BY tier, venue_id")
    types = dict(zip(by_duckdb.columns, map(str, by_duckdb.types), strict=True))
    assert (types["total_volume"], types["market_share_pct"]) == ("DECIMAL(38,6)", "DECIMAL(18,6)")
    assert (types["week_ending"], types["total_trades"], types["venue_name"]) == ("DATE", "BIGINT", "VARCHAR")
    expected = [(*row, WEEK) for row in stored(sql, WEEK)]
    assert by_duckdb.fetchall() == expected
    by_polars = pl.scan_parquet(glob, hive_partitioning=True).collect()
    assert dict(by_polars.schema) == dict(TABLE.schema)
    assert by_polars.rows() == expected
    assert sum(row[COLUMNS.index("total_volume")] for row in expected) == by_polars["total_volume"].sum()


def test_the_statistics_of_row_groups_exclude_other_symbols() -> None:
    """By the metadata of the file, as another library reads it."""
    table = exported_tables()["symbol_concentration"]
    symbols = [f"{letter}{number:05}" for letter in "Aaz" for number in range(15_000)]
    keys = pl.DataFrame({"symbol": symbols[::-1], "tier": "NMS Tier 1", "venue_scope": "ALL", "week_ending": WEEK})
    rows = keys.select(
        pl.col(name) if name in table.key else pl.lit(None, kind).alias(name) for name, kind in table.schema.items()
    )
    metadata = pq.read_metadata(io.BytesIO(to_parquet(in_file_order(table, rows))))
    column = metadata.schema.names.index("symbol")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    spans = [(g.column(column).statistics.min, g.column(column).statistics.max) for g in groups]
    assert len(spans) == 3
    assert {g.column(column).compression for g in groups} == {"ZSTD"}
    assert max(g.num_rows for g in groups) <= 16_384
    for symbol in ("A00000", "a07000", "z14999"):
        assert sum(first <= symbol <= last for first, last in spans) == 1


def test_weeks_that_retention_deleted_stay_exported(warehouse: Database, sql: Sql, target: Target) -> None:
    save(warehouse, EARLIER, BASE, "0")
    save(warehouse, WEEK, BASE, "0")
    export(warehouse, target)
    sql.execute("UPDATE otc.retention SET keep_weeks = 1 WHERE what = 'summaries'")
    sql.execute("DELETE FROM otc.venue_share; DELETE FROM otc.computed_week")
    assert export(warehouse, target) == []
    assert len(target.manifest().weeks["venue_share"]) == 2
    assert [len(exported_files(warehouse, target, week)) for week in (EARLIER, WEEK)] == [1, 1]
    read = pl.scan_parquet(f"{folder(target)}/venue_share/*/*.parquet").collect()
    assert read.height == 2 * len(BASE)


def test_the_venue_volume_of_a_week_graded_f_is_not_exported(warehouse: Database, sql: Sql, target: Target) -> None:
    sql.execute(
        "INSERT INTO otc.computed_week (table_name, week_ending, version, rows) VALUES ('venue_volume', %s, 'T1:1', 0)",
        [WEEK],
    )
    save(warehouse, WEEK, BASE, "0")
    grade = (
        "INSERT INTO otc.week_quality (week_ending, tier, grade, score, findings, version) "
        "VALUES (%s, 'NMS Tier 1', 'F', 0, '[]', 'T1:1')"
    )
    sql.execute(grade, [WEEK])
    export(warehouse, target)
    assert set(target.manifest().weeks) == {"venue_share"}
    sql.execute("DELETE FROM otc.week_quality")
    export(warehouse, target)
    assert set(target.manifest().weeks) == {"venue_share", "venue_volume", "published_total"}
    assert export(warehouse, target) == []


def test_a_gap_that_has_closed_leaves_a_file_without_rows(warehouse: Database, sql: Sql, target: Target) -> None:
    sql.execute(
        "INSERT INTO otc.gap (week_ending, tier, status, due, fetchable, rows_loaded, detail) "
        "VALUES (%s, 'OTC', 'late', '2026-09-21', true, 0, 'not captured')",
        [WEEK],
    )
    assert export(warehouse, target) == [WEEK]
    path = folder(target) / f"gap/week_ending={WEEK}/part.parquet"
    assert pl.read_parquet(path).select("tier", "status").rows() == [("OTC", "late")]
    sql.execute("DELETE FROM otc.gap")
    assert export(warehouse, target) == [WEEK]
    assert pl.read_parquet(path).height == 0
    assert export(warehouse, target) == []


def test_damaged_files_are_found_and_written_again(warehouse: Database, target: Target) -> None:
    save(warehouse, WEEK, BASE, "0")
    export(warehouse, target)
    save(warehouse, WEEK, {**BASE, "V0001": venue(700) | {"venue_id": "V0001"}}, "1")
    export(warehouse, target)
    week = target.manifest().weeks["venue_share"][WEEK]
    for file in (week, week.changes[0]):
        path = folder(target) / file.path
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1])
    (file,) = exported_files(warehouse, target, WEEK)
    assert (file.table, file.intact, file.rows) == ("venue_share", False, None)
    assert sorted(p.problem for p in verify(target) if p) == ["damaged", "damaged"]
    export_week(WEEK, warehouse, target, NOW, repair=True)
    assert list(filter(None, verify(target))) == []
    (file,) = exported_files(warehouse, target, WEEK)
    assert (file.intact, file.rows, file.stored) == (True, 150, 150)


def test_the_data_package_describes_the_columns_of_every_file(warehouse: Database, sql: Sql, target: Target) -> None:
    """By the rules of datapackage.org, version 2.0; and compared with what DuckDB finds in the files."""
    save(warehouse, EARLIER, BASE, "0")
    save(warehouse, WEEK, BASE, "0")
    export(warehouse, target)
    package = json.loads((folder(target) / "datapackage.json").read_text())
    assert package["$schema"] == "https://datapackage.org/profiles/2.0/datapackage.json"
    assert {source["title"].split(",")[0] for source in package["sources"]} == {"FINRA"}
    assert package["licenses"][0]["path"] == "https://developer.finra.org/specific-terms-equity-data"
    (resource,) = package["resources"]
    assert re.fullmatch(r"[a-z0-9._-]+", resource["name"])
    assert (resource["type"], resource["format"]) == ("table", "parquet")
    assert resource["path"] == [f"venue_share/week_ending={week}/part.parquet" for week in (EARLIER, WEEK)]
    fields = {field["name"]: field for field in resource["schema"]["fields"]}
    assert resource["schema"]["primaryKey"] == ["week_ending", "tier", "venue_id"]
    types = {"DATE": "date", "VARCHAR": "string", "BIGINT": "integer", "BOOLEAN": "boolean"}
    glob = f"{folder(target)}/venue_share/*/*.parquet"
    found = duckdb.sql(f"DESCRIBE SELECT * FROM read_parquet('{glob}', hive_partitioning = true)").fetchall()
    assert {n: types.get(t, "number") for n, t, *_ in found} == {n: f["type"] for n, f in fields.items()}
    described = "SELECT col_description('otc.venue_share'::regclass, attnum) FROM pg_attribute WHERE attrelid = "
    described += "'otc.venue_share'::regclass AND attname = 'total_volume'"
    assert sql.execute(described).fetchone() == (fields["total_volume"]["description"],)


def test_a_manifest_of_another_program_is_refused_and_nothing_is_written(warehouse: Database, target: Target) -> None:
    save(warehouse, WEEK, BASE, "0")
    target.write("manifest.json", b'{"format": "another"}')
    with pytest.raises(UnreadableManifest, match="manifest.json is not a manifest of this version.*Restore it, or"):
        export_week(WEEK, warehouse, target, NOW)
    assert [path.name for path in folder(target).iterdir()] == ["manifest.json"]


def test_files_on_s3_are_replaced_and_verified(
    warehouse: Database, sql: Sql, s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    target = Target(parse_archive_url(f"s3://{bucket}/data/otc"))
    target.prepare()
    save(warehouse, WEEK, BASE, "0")
    export(warehouse, target)
    save(warehouse, WEEK, {**BASE, "V0001": venue(700) | {"venue_id": "V0001"}}, "1")
    export(warehouse, target)
    assert set(s3.keys(bucket)) == {
        "data/otc/_unfinished.json",
        f"data/otc/_changes/venue_share/week_ending={WEEK}/00000002.parquet",
        "data/otc/datapackage.json",
        "data/otc/manifest.json",
        f"data/otc/venue_share/week_ending={WEEK}/part.parquet",
    }
    assert list(verify(target)) == [None, None]
    for key in s3.keys(bucket):
        file = tmp_path / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(s3.client().get_object(Bucket=bucket, Key=key)["Body"].read())
    copy: dict[Any, pl.DataFrame] = {}
    DOCS["follow"](tmp_path / "data/otc", copy)
    assert copy["venue_share", str(WEEK)].rows() == stored(sql, WEEK)
    s3.client().delete_object(Bucket=bucket, Key=f"data/otc/venue_share/week_ending={WEEK}/part.parquet")
    assert [p.problem for p in verify(target) if p] == ["missing"]
    export_week(WEEK, warehouse, target, NOW, repair=True)
    assert list(verify(target)) == [None]


def test_an_object_that_s3_finds_damaged_is_reported_and_repaired(
    warehouse: Database, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target(parse_archive_url(f"s3://{bucket}/data/otc"))
    save(warehouse, WEEK, BASE, "0")
    export(warehouse, target)
    (path,) = (week.path for week in target.manifest().of_week(WEEK).values())
    read, write, damaged = S3Archive.get_named, S3Archive.put_named, {path}

    def get_named(self: S3Archive, name: str) -> bytes:
        if name in damaged:
            raise DamagedObject(f"{name}: its bytes do not have the stored checksum")
        return read(self, name)

    def put_named(self: S3Archive, name: str, content: bytes) -> None:
        write(self, name, content)
        damaged.discard(name)

    monkeypatch.setattr(S3Archive, "get_named", get_named)
    monkeypatch.setattr(S3Archive, "put_named", put_named)
    assert list(verify(target)) == [Problem(path, "damaged")]
    export_week(WEEK, warehouse, target, NOW, repair=True)
    assert list(verify(target)) == [None]


def test_a_dropped_week_that_would_be_kept_now_stays_exported(warehouse: Database, sql: Sql, target: Target) -> None:
    """Retention was lengthened after it had dropped the rows; the captures are still recorded."""
    dropped = "UPDATE otc.retention SET keep_weeks = NULL, dropped_until = %s WHERE what = %s"
    sql.execute(dropped, [WEEK, DATASET.retention])
    insert = """INSERT INTO otc.dataset_capture (dataset, period, week_ending, digest, origin, bytes, rows_expected,
        run_id, rows_received, rows_accepted, rows_rejected) VALUES (%s, %s, %s, %s, 'test', 1, 1, 'run', 1, 1, 0)"""
    sql.execute(insert, [DATASET.name, WEEK, WEEK, "0" * 64])
    assert export(warehouse, target) == []
    sql.execute("UPDATE otc.retention SET dropped_until = NULL")
    assert export(warehouse, target) == [WEEK]
