"""Parse and normalize one full-size week, beside a bare read of the same bytes and beside the usual row by row."""

from __future__ import annotations

from benchmarks.others import bare_read, row_by_row
from benchmarks.publications import WEEK, rows_in, whole_week
from benchmarks.results import Measured, Row, Table
from benchmarks.servers import in_turn, process_clock
from otc_assets.domain.normalize import normalize
from otc_assets.domain.parsing import parse


def run() -> Measured:
    """Each in turn."""
    week = whole_week()

    def ours() -> None:
        for tier, content in week.items():
            normalize(parse(content, name="benchmark"), week_ending=WEEK, tier=tier)

    spent = in_turn(
        process_clock,
        {
            "ours": (ours, 9),
            "bare polars.read_csv": (lambda: [bare_read(content) for content in week.values()], 9),
            "csv.DictReader into dataclasses": (lambda: [row_by_row(content) for content in week.values()], 2),
        },
    )
    bounds = {"bare polars.read_csv": 1 / 2, "csv.DictReader into dataclasses": 15}
    mine, height = spent["ours"], rows_in(week.values())
    rows = [
        Row(
            name,
            {"rows": height, "CPU ms": taken},
            taken / mine if name in bounds else None,
            least=bounds.get(name),
            higher_is_better=name in bounds,
        )
        for name, taken in spent.items()
    ]
    return Measured({"parse": Table("way", rows)})
