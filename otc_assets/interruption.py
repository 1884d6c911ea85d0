"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP (a closed terminal) are treated alike.

The first one raises ``Interrupted`` in the main thread. Dagster replaces the handlers while a run executes, and
loses a signal that arrives between two steps. So the interpreter also writes each signal to a file descriptor, and
long work calls ``check`` at the points where it can stop.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: The signals that end a command; the exit code is 128 plus the signal's number.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command has arrived."""


class _Signals:
    """The signals that arrived while they were ``handled``."""

    def __init__(self) -> None:
        self.reader: int | None = None
        self.first: int | None = None
        self.raised = False

    def read(self) -> None:
        if self.reader is None:
            return
        try:
            arrived = os.read(self.reader, 4096)
        except BlockingIOError:
            return
        for number in arrived:
            self.arrived(number)

    def arrived(self, number: int) -> None:
        if self.first is None and number in ENDING:
            self.first = number


_signals = _Signals()


@contextmanager
def handled() -> Iterator[None]:
    """Makes the ending signals raise ``Interrupted`` in the main thread, once: later ones don't disturb the clean-up.

    An ignored SIGHUP stays ignored, because ``nohup`` ignores it. An ignored SIGINT does not, because the background
    jobs of a shell inherit it, and ``kill -INT`` must end them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _signals
    before = _signals, {number: signal.getsignal(number) for number in ENDING}
    _signals = _Signals()
    reader, writer = _pipe()
    _signals.reader = reader
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # As SIGINT, so that a handler of Dagster's for SIGINT also handles this signal.
        signal.signal(signal.SIGHUP, _hang_up)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before[1].items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
        _signals = before[0]


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return reader, writer


def _hang_up(number: int, frame: FrameType | None) -> None:
    del frame
    _signals.arrived(number)
    signal.raise_signal(signal.SIGINT)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del frame
    # While an event loop runs, it has the file descriptor to itself, and a web server raises its signal again.
    _signals.arrived(number)
    if not _signals.raised:
        _signals.raised = True
        raise Interrupted


def received() -> int | None:
    """The ending signal that arrived first; None if none arrived, or if signals are not handled here."""
    _signals.read()
    return _signals.first


def check() -> None:
    """Marks a point at which work can stop.

    Raises:
        Interrupted: an ending signal has arrived.
    """
    if received() is not None:
        _signals.raised = True
        raise Interrupted


@contextmanager
def waiting() -> Iterator[Callable[[float], bool]]:
    """Yields a function that waits a number of seconds; after Ctrl-C it returns True without waiting.

    So work is interrupted between two waits. In the middle of a statement, the database driver's error would hide
    the interruption. A second Ctrl-C interrupts immediately.
    """
    pressed = threading.Event()

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.wait
    finally:
        signal.signal(signal.SIGINT, before)


def exit_code() -> int:
    """The exit code of a command that was interrupted."""
    return 128 + (received() or signal.SIGINT)
