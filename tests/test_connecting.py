"""The examples of docs/connecting.md and the README, on the weeks that a first run loads."""

from __future__ import annotations

import os
import re
import subprocess

import pandas as pd
import polars as pl
import pytest
from support.first_run import FirstRun

from otc_assets.local.server_folder import binaries_of_the_wheel
from otc_assets.settings import PROJECT_ROOT

pytestmark = pytest.mark.slow


def _blocks(page: str, language: str, containing: str = "") -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", (PROJECT_ROOT / page).read_text(), re.S | re.M)
    return [block for of, block in found if of == language and containing in block]


def _apple(first_run: FirstRun) -> object:
    found = first_run.duck.execute("SELECT sum(shares), count(*) FROM rows WHERE symbol = 'AAPL'").fetchone()
    assert found is not None
    return found


def test_the_examples_in_python_read_what_they_say(first_run: FirstRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_DATABASE_URL", first_run.reader_url)
    volume, count = _apple(first_run)  # type: ignore[misc]
    client, polars, pandas = _blocks("docs/connecting.md", "python")
    names: dict[str, object] = {}
    exec(client, names)  # noqa: S102
    frame, table = names["frame"], names["table"]
    assert isinstance(frame, pl.DataFrame)
    assert isinstance(table, pd.DataFrame)
    assert (frame["share_volume"].sum(), frame.height) == (volume, count)
    assert set(table["symbol"]) == {"AAPL", "SPY"}
    exec(polars, names)  # noqa: S102
    assert names["frame"]["share_volume"].sum() == volume  # type: ignore[index]
    exec(pandas, names)  # noqa: S102
    assert names["table"]["total_volume"].sum() == pytest.approx(float(volume))  # type: ignore[index]
    (readme,) = _blocks("README.md", "python", "otc_assets.client")
    exec(readme, names)  # noqa: S102
    assert names["frame"]["total_volume"].sum() == volume  # type: ignore[index]


def test_the_example_of_psql_prints_weeks(first_run: FirstRun) -> None:
    lines = [line for block in _blocks("docs/connecting.md", "", "psql ") for line in block.splitlines()]
    (script,) = (line for line in lines if " -c " in line)
    environment = {
        "PATH": f"{binaries_of_the_wheel() / 'bin'}:{os.environ['PATH']}",
        "OTC_DATABASE_URL": first_run.reader_url,
    }
    printed = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout
    assert "(3 rows)" in printed
    assert "NMS Tier 1" in printed


def test_the_statements_for_r_and_duckdb_are_sql_of_these_tables(first_run: FirstRun) -> None:
    """Neither R nor DuckDB's extension is needed for that; the programs themselves are not run."""
    volume, _ = _apple(first_run)  # type: ignore[misc]
    (r_script,) = _blocks("docs/connecting.md", "r")
    (query,) = re.findall(r'"(SELECT .*?)"', r_script)
    assert sum(row[1] for row in first_run.sql(query.replace("$1", "'AAPL'"))) == volume
    (duck_script,) = _blocks("docs/connecting.md", "", "ATTACH")
    query = duck_script.splitlines()[-1].replace("GROUP BY ALL", "GROUP BY 1")
    assert sum(row[1] for row in first_run.sql(query)) == volume
