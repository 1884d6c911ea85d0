"""The peak memory of processes that capture and compute one full-size week, and compute it again, as runs do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.publications import WEEK
from benchmarks.results import Measured, Row, Table

#: In MiB.
_LIMIT = 384


def run() -> Measured:
    """The week twice, each time in a process of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTC_")}
    with tempfile.TemporaryDirectory(prefix="otc-bench-") as folder:
        Path(folder).chmod(0o755)
        env |= {"OTC_HOME": folder}
        command = [sys.executable, "-m", "benchmarks.one_week", str(WEEK)]
        rows = []
        for name in ("one full-size week, captured and computed", "the same week again"):
            said = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
            peak = float(said.split()[-1])
            rows.append(Row(name, {"peak MiB": peak, "limit MiB": _LIMIT}, peak / _LIMIT, most=1))
    return Measured({"memory": Table("run", rows)})
