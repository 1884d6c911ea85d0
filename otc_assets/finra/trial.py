"""Reads a Parquet file in a process of its own first, because a damaged one can end the process that reads it.

Polars asks for as much memory as the file says. Where there is not so much, its runtime ends the process, and no error
is raised that Python could catch. What the rows are is decided in ``domain.parsing``, which the process uses, too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress

from otc_assets.domain.parsing import UnreadableFile, is_parquet, parse
from otc_assets.settings import public_environment

#: The largest file that is accepted takes a tenth of it.
SECONDS = 300.0

_REMEDY = "Write it again, or use FINRA's download file"


def refuse_fatal(content: bytes, origin: str) -> None:
    """Refuses a Parquet file that ends the process which reads it. Other files and other errors are left to ``parse``.

    Args:
        content: the file.
        origin: where it is from, for messages.

    Raises:
        UnreadableFile: the process was ended by a signal, or it took more than SECONDS.
        RuntimeError: the process failed for another reason.
    """
    if not is_parquet(content):
        return
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and constant arguments
            [sys.executable, "-m", __name__],
            input=content,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=public_environment(),
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        problem = f"the Parquet file is damaged (reading it takes more than {SECONDS:g} seconds)"
        raise UnreadableFile(origin, problem, _REMEDY) from None
    if done.returncode < 0:
        ended_by = signal.Signals(-done.returncode).name
        problem = f"the Parquet file is damaged ({ended_by} ends the process that reads it)"
        raise UnreadableFile(origin, problem, _REMEDY)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"the trial of {origin} failed: {said[-1] if said else done.returncode}")


def main() -> None:
    """Reads the file on standard input."""
    with suppress(UnreadableFile):
        parse(sys.stdin.buffer.read(), name="standard input")


if __name__ == "__main__":
    main()
