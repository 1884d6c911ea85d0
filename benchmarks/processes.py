"""A command of ours that serves on a port, as a process of its own, and the processor time of processes.

What is asked of it is in the modules of the benchmarks; servers of PostgreSQL are in ``servers``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def serving(command: str, **environment: str) -> Iterator[tuple[int, psutil.Process]]:
    """A command that serves on a port of 127.0.0.1 until the end: its port and its process.

    Args:
        command: ``serve`` or ``metrics``.
        environment: variables beside those of this process.
    """
    words = [str(Path(sys.executable).with_name("otc-assets")), command, "--port", "0"]
    with subprocess.Popen(words, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"127\.0\.0\.1:(\d+)", process.stderr.readline())
        assert found is not None
        try:
            yield int(found[1]), psutil.Process(process.pid)
        finally:
            process.terminate()


def processor(process: psutil.Process) -> float:
    """Seconds of processor time of a process and its children."""
    found = 0.0
    for each in [process, *process.children(recursive=True)]:
        times = each.cpu_times()
        found += times.user + times.system
    return found
