"""The peers that load a publication: the plain design, pandas, dlt, and tools that do only a part of the work.

Each peer fills a table of its own, which has the key of ``otc.venue_volume``, no other index and no history.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import psycopg
import sqlalchemy as sa

from benchmarks.results import NotMeasured
from otc_assets.domain.parsing import FIELDS
from otc_assets.domain.schema import FIRM_ROW_CODES, RECORD

TABLE = """
    CREATE SCHEMA peer;
    CREATE TABLE peer.volume (
        week_start date, tier text, symbol text, issue_name text, product_type text, mpid text, firm_crd text,
        venue_name text, share_volume numeric, trade_count bigint, notional numeric, summary_type text,
        last_update_date date, venue_id text,
        PRIMARY KEY (week_start, tier, symbol, issue_name, product_type, venue_id)
    )
"""
_UPSERT = """
    INSERT INTO peer.volume VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (week_start, tier, symbol, issue_name, product_type, venue_id) DO UPDATE SET
        mpid = excluded.mpid, firm_crd = excluded.firm_crd, venue_name = excluded.venue_name,
        share_volume = excluded.share_volume, trade_count = excluded.trade_count, notional = excluded.notional,
        summary_type = excluded.summary_type, last_update_date = excluded.last_update_date
"""

# --- the plain design ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """What a parser that goes row by row makes of a row; hashable, to find rows that occur twice."""

    week_start: dt.date
    tier: str
    symbol: str
    issue: str
    product: str
    mpid: str | None
    crd: str | None
    venue: str | None
    shares: Decimal
    trades: int
    notional: Decimal
    code: str
    updated: dt.date


def row_by_row(content: bytes) -> set[Row]:
    """The usual way: csv.DictReader into dataclasses, each row once."""
    rows = csv.DictReader(io.StringIO(content.decode()), delimiter="|", quoting=csv.QUOTE_NONE)
    return {
        Row(
            dt.date.fromisoformat(r["weekStartDate"]),
            r["tierDescription"],
            r["issueSymbolIdentifier"],
            r["issueName"],
            r["productTypeCode"],
            r["MPID"] or None,
            r["firmCRDNumber"] or None,
            r["marketParticipantName"] or None,
            Decimal(r["totalWeeklyShareQuantity"]),
            int(r["totalWeeklyTradeCount"]),
            Decimal(r["totalNotionalSum"]),
            r["summaryTypeCode"],
            dt.date.fromisoformat(r["lastUpdateDate"]),
        )
        for r in rows
    }


def plain_design(connection: psycopg.Connection[tuple[object, ...]], publications: Iterable[bytes]) -> None:
    """Rows of venues by csv.DictReader into dataclasses, and an upsert of each, in one transaction."""
    for content in publications:
        for row in row_by_row(content):
            if row.code in FIRM_ROW_CODES:
                connection.execute(_UPSERT, (*values_of(row), row.mpid or row.crd or row.venue))
    connection.commit()


def values_of(row: Row) -> tuple[object, ...]:
    """The values of a row; ``dataclasses.astuple`` would copy each of them."""
    return tuple(row.__dict__.values())


# --- pandas ------------------------------------------------------------------------------------------------

_COLUMNS = {
    "weekStartDate": "week_start",
    "tierDescription": "tier",
    "issueSymbolIdentifier": "symbol",
    "issueName": "issue_name",
    "productTypeCode": "product_type",
    "MPID": "mpid",
    "firmCRDNumber": "firm_crd",
    "marketParticipantName": "venue_name",
    "totalWeeklyShareQuantity": "share_volume",
    "totalWeeklyTradeCount": "trade_count",
    "totalNotionalSum": "notional",
    "summaryTypeCode": "summary_type",
    "lastUpdateDate": "last_update_date",
}
_NUMBERS = ("totalWeeklyShareQuantity", "totalWeeklyTradeCount", "totalNotionalSum")
_DAYS = ("weekStartDate", "lastUpdateDate")


def with_pandas(engine: sa.Engine, publications: Iterable[bytes]) -> None:
    """The rows of venues by ``read_csv`` and ``to_sql``, which can't upsert: earlier rows are deleted first.

    ``to_sql`` has its default method, a row per statement: with 'multi', 500 rows each, it took 8.6 times as long.

    Args:
        engine: of the database.
        publications: of one week.
    """
    with engine.begin() as connection:
        for content in publications:
            frame = pd.read_csv(
                io.BytesIO(content),
                sep="|",
                quoting=csv.QUOTE_NONE,
                usecols=list(_COLUMNS),
                dtype={name: str for name in _COLUMNS if name not in (*_NUMBERS, *_DAYS)},
                parse_dates=list(_DAYS),
                keep_default_na=False,
                na_values=[""],
            ).rename(columns=_COLUMNS)
            frame = frame[frame["summary_type"].isin(FIRM_ROW_CODES)]
            frame["product_type"] = frame["product_type"].fillna("")
            frame["venue_id"] = frame["mpid"].fillna(frame["firm_crd"]).fillna(frame["venue_name"])
            delete = sa.text("DELETE FROM peer.volume WHERE week_start = :week AND tier = :tier")
            connection.execute(delete, {"week": frame["week_start"].iloc[0], "tier": frame["tier"].iloc[0]})
            frame.to_sql("volume", connection, schema="peer", if_exists="append", index=False, chunksize=500)


# --- dlt ---------------------------------------------------------------------------------------------------


class Dlt:
    """A process with dlt, which runs a pipeline when it is asked, and says its processor time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.version = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("answer "):
                return line.removeprefix("answer ").strip()
        raise RuntimeError("dlt failed: its messages are above")

    def load(self, files: list[Path], how: str) -> float:
        """Loads publications by a merge. Returns the milliseconds of processor time of its process.

        Args:
            files: the publications.
            how: 'rows' for dictionaries, 'arrow' for an Arrow table.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"files": [str(file) for file in files], "how": how}) + "\n")
        self._process.stdin.flush()
        return float(self._answer())


@contextmanager
def dlt(url: str, folder: Path) -> Iterator[Dlt]:
    """A process with dlt that loads into the database.

    Args:
        url: of the database.
        folder: for what dlt keeps.

    Raises:
        NotMeasured: OTC_BENCH_DLT_PYTHON names no interpreter that has dlt.
    """
    python = os.environ.get("OTC_BENCH_DLT_PYTHON", sys.executable)
    try:
        tried = subprocess.run([python, "-c", "import dlt, psycopg2, pyarrow"], capture_output=True, check=False)
    except OSError as error:
        raise NotMeasured(f"OTC_BENCH_DLT_PYTHON is {python}: {error.strerror}") from None
    if tried.returncode:
        raise NotMeasured(
            f"{python} has no dlt. Install 'dlt[postgres]' and pyarrow into a virtual environment of their own, and "
            "set OTC_BENCH_DLT_PYTHON to its interpreter"
        )
    env = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    env |= {
        "DESTINATION__POSTGRES__CREDENTIALS": url,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "HOME": str(folder),
    }
    script = Path(__file__).with_name("dlt_process.py")
    with subprocess.Popen(
        [python, str(script)], env=env, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Dlt(process)
        assert process.stdin is not None
        process.stdin.close()


# --- a part of the work ------------------------------------------------------------------------------------


def bare_read(content: bytes) -> pl.DataFrame:
    """Polars alone, with the types."""
    names = content.partition(b"\n")[0].decode().split("|")
    schema = {name: RECORD[FIELDS[name]] if name in FIELDS else pl.String for name in names}
    return pl.read_csv(content, separator="|", quote_char=None, schema=schema)
