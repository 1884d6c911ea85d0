"""What is said of a retry, and where."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

#: How processes of this project start.
_STARTS = {
    "a command": "from otc_assets.cli.app import _run; sys.argv = ['otc-assets', '--version']; _run()",
    "a code location": "from otc_assets.definitions import defs; defs()",
    "the web server": "from otc_assets.defs.storage import Storage; Storage.from_config_value(None, {})",
}
_RETRY = """
import stamina

@stamina.retry(on=ValueError, attempts=2, wait_initial=0.01)
def work(secret):
    print(len(secret))
    raise ValueError('no answer from otc:pass-word@127.0.0.1\\nand more' if secret else '')

print('begin')
try:
    work('an argument')
except ValueError:
    print('end')
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", _STARTS)
def test_a_retry_is_one_line_on_standard_error_without_arguments_and_secrets(start: str, tmp_path: Path) -> None:
    """Standard output may be data: stamina alone prints there."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {_STARTS[start]}\n{_RETRY}"],
        env={"OTC_HOME": str(tmp_path), "DAGSTER_HOME": str(tmp_path), "OTC_FINRA_CLIENT_SECRET": "pass-word"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout[done.stdout.index("begin") :].split() == ["begin", "11", "11", "end"]
    (line,) = [line for line in done.stderr.splitlines() if "trying again" in line]
    assert re.fullmatch(r"no answer from otc:\*\*\*@127\.0\.0\.1: trying again in \d\.\d s", line)
    assert "an argument" not in done.stderr
