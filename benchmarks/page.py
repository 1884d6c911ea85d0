"""Tables as Markdown, for the terminal and for docs/benchmarks.md, whose tables are written from the recorded results.

``python -m benchmarks.page`` writes them: each is between ``<!-- results: BENCHMARK.TABLE -->`` and
``<!-- end of results -->``. The sentences around them are written by hand.
"""

from __future__ import annotations

import re

from benchmarks.results import ROOT, Result, Table, Value, recorded

PAGE = ROOT / "docs" / "benchmarks.md"
_BLOCK = re.compile(r"(<!-- results: (\w+)\.(\w+) -->\n).*?(<!-- end of results -->)", re.S)


def shown(table: Table) -> str:
    """The table as Markdown, with the columns ``ratio`` and ``wanted`` where its rows have them."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row.values))
    rows = [[row.name, *(_cell(row.values.get(name, "")) for name in columns)] for row in table.rows]
    head = [table.of, *columns]
    if any(row.ratio is not None for row in table.rows):
        head.append("ratio")
        rows = [[*cells, _ratio(row.ratio)] for cells, row in zip(rows, table.rows, strict=True)]
    if any(row.wanted for row in table.rows):
        head.append("wanted")
        rows = [[*cells, row.wanted] for cells, row in zip(rows, table.rows, strict=True)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def caption(result: Result) -> str:
    """When and where it was measured."""
    processors, memory = result.machine["processors"], result.machine["memory_gib"]
    return f"Measured on {result.date}: {processors} processors, {memory} GiB."


def written(page: str) -> str:
    """The page with the recorded results.

    Raises:
        KeyError: a table that the page names is not recorded.
    """

    def block(found: re.Match[str]) -> str:
        head, benchmark, name, end = found.groups()
        result = recorded(benchmark)
        if result is None:
            raise KeyError(benchmark)
        return f"{head}\n{shown(result.tables[name])}\n\n{caption(result)}\n\n{end}"

    return _BLOCK.sub(block, page)


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value < 0.1 else f"{value:,.2f}" if value < 10 else f"{value:,.1f}"


def _cell(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else value


def main() -> None:
    """Writes the page."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
