"""Processes of this machine: their sessions and command lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from otc_assets.processes import command_of, session_members, started

LEADER = """
import subprocess, sys
print(subprocess.Popen(["sleep", "120"]).pid, flush=True)
sys.stdin.read()
"""


def test_a_session_has_its_running_members_also_after_its_leader_has_ended() -> None:
    """The runs of a killed `up` are found by its session. Zombies are not counted: perhaps no process collects them."""
    with subprocess.Popen(
        [sys.executable, "-c", LEADER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as leader:
        assert leader.stdout is not None
        child = int(leader.stdout.readline())
        deadline = time.monotonic() + 60
        while command_of(child) != ["sleep", "120"]:  # it is empty for a moment, while the program is loaded
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert sorted(session_members(leader.pid)) == sorted([leader.pid, child])
        leader.kill()
        while started(leader.pid) is not None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert session_members(leader.pid) == [child]
        assert command_of(leader.pid) == []
        os.kill(child, signal.SIGKILL)
        while session_members(leader.pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert started(child) is None
