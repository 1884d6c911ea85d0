"""Processes of this machine: which one this is, and whether another still runs.

A process ID alone does not identify a process, because IDs are reused. An identity therefore holds the time at
which the process started, the boot it belongs to and, on Linux, its process-ID namespace: a container sees only
its own processes. Which process executes a Dagster run is recorded elsewhere.
"""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Identity:
    """One process. No other process of any machine ever has the same identity.

    Attributes:
        host: the machine's name and, where it has one, its ID.
        boot: the ID of the machine's boot; empty where the system has none.
        namespace: the process-ID namespace; empty where the system has none.
        pid: the process ID.
        started: when it started, in the system's own unit.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: str

    def __str__(self) -> str:
        return "|".join(map(str, astuple(self)))

    @classmethod
    def parse(cls, text: str) -> Identity | None:
        """The identity that ``str`` wrote; None for any other text."""
        parts = text.split("|")
        if len(parts) != 5 or not parts[3].isdigit():
            return None
        return cls(parts[0], parts[1], parts[2], int(parts[3]), parts[4])


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


@cache
def _machine() -> tuple[str, str, str]:
    """(host, boot, namespace) of this process."""
    host = f"{platform.node()}/{_read('/etc/machine-id')[:12]}".replace("|", "_")
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return host, _read("/proc/sys/kernel/random/boot_id"), namespace


def started(pid: int) -> str | None:
    """When the process started; None if it does not run. A zombie (ended, not yet collected) does not run."""
    if sys.platform == "linux":
        # Clock ticks since the boot. psutil's create_time() adds the boot time to them, and the kernel computes that
        # from the wall clock: the start time of a process would change when the clock is set.
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return None if len(fields) < 20 or fields[0] in ("Z", "X") else fields[19]
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.Error:
        return None


def this_process() -> Identity:
    """The identity of the calling process."""
    return Identity(*_machine(), os.getpid(), started(os.getpid()) or "")


def is_dead(process: Identity) -> bool:
    """Whether the process is known to have ended. False also if this is unknown: another machine or container."""
    host, boot, namespace = _machine()
    if process.host != host:
        return False
    if process.boot != boot:
        return True
    return process.namespace == namespace and started(process.pid) != process.started


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty if it can't be read, or if the process has ended."""
    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def session_members(leader: int) -> list[int]:
    """The running processes of the session that ``leader`` started. The leader itself may have ended."""
    members = []
    for pid in psutil.pids():
        with suppress(OSError):
            if os.getsid(pid) == leader and started(pid) is not None:
                members.append(pid)
    return members
