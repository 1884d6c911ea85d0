"""Every reader of foreign bytes on damaged inputs: the targets of ``make fuzz``, with few inputs each."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from targets import TARGETS, Target

from otc_assets.settings import PROJECT_ROOT

#: Cheap edits that find most faults: a piece is removed, repeated, replaced by a word, or by any bytes.
_EDITS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.2), st.integers(0, 3), st.binary(max_size=4)), max_size=5)


def _edited(seed: bytes, target: Target, edits: list[tuple[float, float, int, bytes]]) -> bytes:
    data = seed
    for where, length, kind, other in edits:
        start = int(where * len(data))
        end = start + int(length * len(data))
        word = target.words[(start + len(other)) % len(target.words)] if target.words else other
        piece = (b"", data[start:end] * 2, word, other)[kind]
        data = data[:start] + piece + data[end:]
    return data


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_input_is_read_or_refused_with_an_error_for_users(name: str, data: st.DataObject) -> None:
    """Guards against lost rows, panics and stack traces; what each target asserts is in its docstring."""
    target = TARGETS[name]
    seed = data.draw(st.sampled_from(target.seeds))
    target.check(_edited(seed, target, data.draw(_EDITS)))


def test_every_seed_keeps_the_invariants() -> None:
    """The inputs that fuzzing begins with have no fault of their own."""
    for target in TARGETS.values():
        for seed in target.seeds:
            target.check(seed)


def test_the_lock_file_of_fuzzing_pins_one_package_for_every_python() -> None:
    """It has no wheel for every platform, so it must stay out of the lock files that developers and images need."""
    pins = re.findall(r"^(\S+)==\S+", (PROJECT_ROOT / "requirements-fuzz.lock").read_text(), re.MULTILINE)
    assert pins == ["atheris", "atheris"]
    assert "atheris" not in (PROJECT_ROOT / "requirements.lock").read_text()
