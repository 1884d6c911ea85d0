"""Coverage-guided fuzzing of every target, by atheris: ``make fuzz``.

Each target runs in a process of its own with a limit of memory and a limit of time per input. The parent prints how
many inputs each had, and exits with 1 where one was a fault; the inputs of faults are in ``FOUND``, one file each.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

#: Where the inputs of faults are kept; git ignores it.
FOUND = Path(__file__).resolve().parent / "found"
#: More address space than a reader of the largest publication takes. Polars reserves much that it does not use.
ADDRESS_BYTES = 8 << 30
#: The most memory in use, and the most processor time for one input, which has a few kilobytes. By the clock, libFuzzer
#: ends the process after a longer time: on a busy machine, a process may wait for the disk.
MOST_RSS_MB, MOST_SECONDS, MOST_BYTES = 1_500, 5, 8_192
_CLOCK_SECONDS = 120


def one_target(name: str, folder: Path, arguments: list[str]) -> None:
    """Fuzzes a target until libFuzzer ends the process. Writes the number of inputs and each fault into ``folder``."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))
    os.environ.update({"POLARS_MAX_THREADS": "1"})
    import atheris

    with atheris.instrument_imports(include=["otc_assets", "openpyxl"], enable_loader_override=False):
        from targets import TARGETS

        import otc_assets.cli.app  # noqa: F401 - with everything that it imports
    import logging

    import stamina

    logging.disable(logging.CRITICAL)
    stamina.set_testing(True, attempts=1)  # retries print their waits
    target = TARGETS[name]
    (folder / "seeds").mkdir()
    for number, seed in enumerate(target.seeds):
        (folder / "seeds" / str(number)).write_bytes(seed)
    words = "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words)
    (folder / "words").write_text(words)
    arguments = [*arguments, f"-dict={folder / 'words'}"] if words else arguments  # libFuzzer refuses an empty one
    seen: set[str] = set()
    count = os.open(folder / "count", os.O_CREAT | os.O_WRONLY)
    tried = 0

    def check(data: bytes) -> None:
        nonlocal tried
        tried += 1
        os.pwrite(count, b"%d" % tried, 0)
        began = time.process_time()
        try:
            target.check(data)
            assert time.process_time() - began < MOST_SECONDS, "it took too long"
        except BaseException as fault:  # a panic is no Exception
            frame = traceback.extract_tb(fault.__traceback__)[-1]
            kind = f"{type(fault).__name__} {frame.filename}:{frame.lineno}"
            if kind not in seen:  # one input of each kind: fuzzing goes on
                seen.add(kind)
                FOUND.mkdir(exist_ok=True)
                path = FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
                path.write_bytes(data)
                with (folder / "faults").open("a") as faults:
                    faults.write(f"{path}\n{''.join(traceback.format_exception(fault)[-6:])}\n")

    atheris.Setup([sys.argv[0], *arguments, str(folder / "seeds")], check)
    atheris.Fuzz()


def fuzz(name: str, seconds: int, runs: int) -> tuple[int, str]:
    """Fuzzes a target in a process of its own. Returns the number of inputs, and its faults as text."""
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        limits = [
            f"-max_total_time={seconds}",
            f"-runs={runs}",
            f"-timeout={_CLOCK_SECONDS}",
            f"-rss_limit_mb={MOST_RSS_MB}",
            f"-max_len={MOST_BYTES}",
            f"-artifact_prefix={FOUND}/{name}-",
        ]
        command = [sys.executable, __file__, "--child", name, made, *limits]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        counted = folder / "count"
        tried = int(counted.read_text() or 0) if counted.exists() else 0
        faults = (folder / "faults").read_text() if (folder / "faults").exists() else ""
        if ended.returncode:  # a hang, too much memory, or the end of the process
            faults += f"the process ended with {ended.returncode}:\n{ended.stderr[-3000:]}\n"
        return tried, faults


def main() -> int:
    """Fuzzes the targets one after another. Returns the exit code."""
    if sys.argv[1:2] == ["--child"]:
        one_target(sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
    from targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=45, help="per target")
    parser.add_argument("--runs", type=int, default=-1, help="inputs per target; -1 for as many as the time allows")
    parser.add_argument("targets", nargs="*", help="all by default")
    chosen = parser.parse_args()
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"unknown targets {', '.join(sorted(unknown))}: there are {', '.join(TARGETS)}")
    total, failed = 0, []
    for name in chosen.targets or TARGETS:
        tried, faults = fuzz(name, chosen.seconds, chosen.runs)
        total += tried
        failed += [name] if faults or not tried else []
        print(
            f"{name:16} {tried:>9,} inputs   {'FAULTS' if faults else 'no fault' if tried else 'not run'}", flush=True
        )
        if faults:
            print(faults, flush=True)
    print(f"{'all':16} {total:>9,} inputs")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
