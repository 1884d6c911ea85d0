"""Reads or copies many objects at once: with S3, most of the time is spent waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Each may have the bytes of one publication in memory.
_THREADS = 4


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of a function that may block, in the order of ``items``. An error or an interruption ends all."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
