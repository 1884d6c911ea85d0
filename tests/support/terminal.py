"""A command in a terminal of its own: a process with its own session, that can be sent signals while it works."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from otc_assets.settings import PROJECT_ROOT


def _default_signals() -> None:
    """A terminal's own dispositions: a test run that was started by nohup, or in the background, ignores these."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """A console script with arguments, in the project's folder and in a process group of its own.

    Args:
        arguments: of the command.
        program: the console script.
        settings: environment variables; those of this process that begin with OTC_ or DAGSTER_ are left out.
    """

    def __init__(self, *arguments: str, settings: dict[str, str], program: str = "otc-assets") -> None:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("OTC_", "DAGSTER_"))} | settings
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=PROJECT_ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=_default_signals,
        )
        atexit.register(self._stop)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _stop(self) -> None:
        """Ends a command that a failed test left running, and with it the processes that it started."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=120)
            self.process.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return "".join(self.lines)

    def wait_for(self, words: str, seconds: float = 600) -> None:
        """Waits until it has printed ``words``."""
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert self.process.poll() is None, f"it ended before it printed {words!r}: {self.text}"
            assert time.monotonic() < deadline, f"it never printed {words!r}: {self.text}"
            time.sleep(0.02)

    def send(self, number: int) -> None:
        """Sends a signal to the command alone."""
        self.process.send_signal(number)

    def end(self, seconds: float = 600) -> int:
        """Waits for its end. Returns the exit code."""
        code = self.process.wait(timeout=seconds)
        self._reader.join(timeout=10)
        return code
