"""Processes of this machine: which one this is, and whether another still runs.

A process id alone does not identify a process, because ids are reused. An identity therefore holds the time at
which the process started, the boot it belongs to and, on Linux, its process-id namespace: a container sees only
its own processes. What Dagster runs have to do with processes is in ``liveness``.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Identity:
    """One process, for as long as the machine exists.

    Attributes:
        host: the machine's name and, where it has one, its id.
        boot: which boot of the machine.
        namespace: the process-id namespace; empty where the system has none.
        pid: the process id.
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


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@cache
def _machine() -> tuple[str, str, str]:
    """(host, boot, namespace) of this process."""
    host = f"{platform.node()}/{_read(Path('/etc/machine-id'))[:12]}".replace("|", "_")
    try:
        namespace = os.readlink(_PROC / "self" / "ns" / "pid")
    except OSError:
        namespace = ""
    return host, _read(_PROC / "sys/kernel/random/boot_id"), namespace


def started(pid: int) -> str | None:
    """When the process started; None where it does not run. A zombie (ended, not yet collected) does not run."""
    if _PROC.joinpath("self").exists():
        # Clock ticks since the boot: unlike a time of day, they don't move when the clock is set.
        fields = _read(_PROC / str(pid) / "stat").rpartition(")")[2].split()
        return None if len(fields) < 20 or fields[0] in ("Z", "X") else fields[19]
    shown = subprocess.run(  # noqa: S603 - constant arguments and a number
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(None, 1)
    return None if len(shown) < 2 or shown[0].startswith("Z") else shown[1].strip()


def this_process() -> Identity:
    """The identity of the calling process."""
    return Identity(*_machine(), os.getpid(), started(os.getpid()) or "")


def is_dead(process: Identity) -> bool:
    """Whether the process is known to have ended. False also where it can't be known: another machine or container."""
    host, boot, namespace = _machine()
    if process.host != host:
        return False
    if process.boot != boot:
        return True
    return process.namespace == namespace and started(process.pid) != process.started


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty where it can't be read, or where there is none."""
    if _PROC.joinpath("self").exists():
        try:
            words = (_PROC / str(pid) / "cmdline").read_bytes()
        except OSError:
            return []
        return [os.fsdecode(word) for word in words.split(b"\0")[:-1]]
    return subprocess.run(  # noqa: S603 - constant arguments and a number
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split()


def session_members(leader: int) -> list[int]:
    """The running processes of the session that ``leader`` began; it may have ended itself. Linux only."""
    members = []
    for entry in _PROC.iterdir() if _PROC.joinpath("self").exists() else ():
        if entry.name.isdigit():
            fields = _read(entry / "stat").rpartition(")")[2].split()
            if len(fields) > 3 and fields[3] == str(leader) and fields[0] not in ("Z", "X"):
                members.append(int(entry.name))
    return members
