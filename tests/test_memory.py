"""Memory that a process has freed is returned to the system, and imports do not wait for a search for garbage."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys

import pytest

from otc_assets.memory import importing

#: Publications of 24 MiB, one after another; a small block that is still used lies behind the place of each.
_CHILD = """
import {module}

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

held, before = [], resident()
for _ in range(4):
    content = b"x" * (24 * 2**20)
    held.append(bytearray(100_000))
    del content
print(resident() - before)
"""


def _kept(module: str, **env: str) -> float:
    """The MiB that a process keeps after it has imported ``module`` and freed everything that is large."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", _CHILD.format(module=module)]
    return float(subprocess.run(command, env=inherited | env, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the parameters are glibc's")
def test_freed_blocks_are_returned_although_smaller_ones_are_still_in_use() -> None:
    assert _kept("sys") > 20
    assert _kept("otc_assets.memory") < 4
    # The user's own value is left alone.
    assert _kept("otc_assets.memory", MALLOC_MMAP_THRESHOLD_=str(32 * 2**20)) > 20


@pytest.mark.parametrize(
    ("given", "applies"),
    [
        (None, "dirty_decay_ms:100,muzzy_decay_ms:0"),
        # A process that was started by one with Polars, which has set its own.
        ("dirty_decay_ms:500,muzzy_decay_ms:1000", "dirty_decay_ms:100,muzzy_decay_ms:0"),
        ("dirty_decay_ms:500,muzzy_decay_ms:1000,thp:always", "dirty_decay_ms:100,muzzy_decay_ms:0"),
        ("dirty_decay_ms:7", "dirty_decay_ms:7"),
        ("dirty_decay_ms:500,muzzy_decay_ms:1000,dirty_decay_ms:7", "dirty_decay_ms:7"),
    ],
)
def test_the_allocator_of_polars_has_our_values_or_those_of_the_user(given: str | None, applies: str) -> None:
    """Of a value that is given twice, jemalloc takes the last."""
    name = "_RJEM_MALLOC_CONF"
    code = f"import os, otc_assets.memory; print(os.environ['{name}']); import polars; print(os.environ['{name}'])"
    env = {key: value for key, value in os.environ.items() if key != name} | ({name: given} if given else {})
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    before, after = done.stdout.split()
    assert before.endswith(applies)
    assert after.endswith(applies)


def test_no_garbage_is_looked_for_during_imports() -> None:
    frozen = gc.get_freeze_count()
    held = []
    with importing():
        assert not gc.isenabled()
        held += [[number] for number in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() - frozen >= len(held)


def test_who_looks_for_garbage_by_other_rules_goes_on_so() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
