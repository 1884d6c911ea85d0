"""Reads or copies many objects at once: with S3, most of the time is spent waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from otc_assets.archive.store import Archive, error_of

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


def problems_of(archive: Archive, digests: Sequence[str]) -> dict[str, str]:
    """By digest of bytes that can't be used: 'missing' or 'damaged'."""
    found = zip(digests, in_threads(lambda digest: error_of(archive, digest), digests), strict=True)
    return {digest: error.problem for digest, error in found if error is not None}
