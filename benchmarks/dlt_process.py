"""Loads publications with dlt: run by ``others`` with an interpreter that has dlt, and nothing of ours.

A line of JSON names the files and the way; the answer is the processor time in milliseconds, without imports.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import resource
import sys
import time
from collections.abc import Iterator
from decimal import Decimal

import dlt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

_VENUES = ["ATS_W_SMBL_FIRM", "OTC_W_SMBL_FIRM"]
_KEY = ["weekStartDate", "tierIdentifier", "issueSymbolIdentifier", "issueName", "venue"]
_DECIMALS = ("totalWeeklyShareQuantity", "totalNotionalSum")
_DAYS = ("weekStartDate", "lastUpdateDate")


def rows(files: list[str]) -> Iterator[list[dict[str, object]]]:
    """The rows of venues as dictionaries, a thousand at a time, as dlt recommends."""
    for file in files:
        batch: list[dict[str, object]] = []
        with open(file, newline="") as lines:
            for row in csv.DictReader(lines, delimiter="|", quoting=csv.QUOTE_NONE):
                if row["summaryTypeCode"] in _VENUES:
                    row["venue"] = row["MPID"] or row["firmCRDNumber"] or row["marketParticipantName"]
                    typed: dict[str, object] = {name: value or None for name, value in row.items()}
                    typed |= {name: Decimal(row[name]) for name in _DECIMALS}
                    typed |= {name: dt.date.fromisoformat(row[name]) for name in _DAYS}
                    typed["issueName"], typed["totalWeeklyTradeCount"] = (
                        row["issueName"],
                        int(row["totalWeeklyTradeCount"]),
                    )
                    batch.append(typed)
                if len(batch) == 1000:
                    yield batch
                    batch = []
        yield batch


def arrow(files: list[str]) -> Iterator[pa.Table]:
    """The rows of venues as Arrow tables."""
    types = {name: pa.decimal128(38, 6) for name in _DECIMALS} | {name: pa.date32() for name in _DAYS}
    types |= {name: pa.string() for name in ("MPID", "firmCRDNumber", "productTypeCode", "issueName")}
    for file in files:
        table = pa.csv.read_csv(
            file,
            parse_options=pa.csv.ParseOptions(delimiter="|", quote_char=False),
            convert_options=pa.csv.ConvertOptions(
                column_types=types, strings_can_be_null=True, null_values=[""], quoted_strings_can_be_null=True
            ),
        )
        table = table.filter(pc.is_in(table["summaryTypeCode"], pa.array(_VENUES)))
        venue = pc.coalesce(table["MPID"], table["firmCRDNumber"], table["marketParticipantName"])
        yield table.append_column("venue", venue)


def spent() -> float:
    """Processor seconds of this process and its children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    """Answers each line."""
    pipeline = dlt.pipeline("bench", destination="postgres", dataset_name="peer_dlt")
    print("answer", dlt.__version__, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        begun = spent()
        source = {"rows": rows, "arrow": arrow}[asked["how"]](asked["files"])
        pipeline.run(source, table_name=f"volume_{asked['how']}", write_disposition="merge", primary_key=_KEY)
        print("answer", (spent() - begun) * 1000, flush=True)


if __name__ == "__main__":
    main()
