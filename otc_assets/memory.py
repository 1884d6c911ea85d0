"""How the process returns memory that it has freed, and when it looks for garbage.

Imported before Polars, whose allocator reads its settings once. They apply to this project's processes, and not to
those that use it as a library.
"""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATOR = "_RJEM_MALLOC_CONF"
#: What Polars sets itself, before what it finds. Processes that it starts inherit that, as if a user had set it.
_OF_POLARS = "dirty_decay_ms:500,muzzy_decay_ms:1000"
#: With Polars' values, its allocator (jemalloc) keeps freed memory while a run reads the next tier: the peak of a
#: full-size week was 20 to 60 MiB higher, in the same processor time.
_OURS = "dirty_decay_ms:100,muzzy_decay_ms:0"

_given = os.environ.get(_ALLOCATOR, "")
if "decay" not in _given.removeprefix(_OF_POLARS):
    os.environ[_ALLOCATOR] = ",".join(filter(None, (_given, _OURS)))

#: Parameters of glibc's allocator, which Python uses: their numbers (malloc.h), the variables in which a user sets
#: them, and our values. By default, freeing a block of up to 32 MiB makes glibc take the next ones of that size from
#: its heap, which it can't return while anything smaller is behind them; and each thread that fetches pages has a heap
#: of its own. The peak of a full-size week was 65 to 95 MiB higher, in the same processor time.
_GLIBC = (
    (-3, "MALLOC_MMAP_THRESHOLD_", 2**20),
    (-1, "MALLOC_TRIM_THRESHOLD_", 2**20),
    (-8, "MALLOC_ARENA_MAX", 2),
)


def _set_up_glibc() -> None:
    """Sets the parameters that the user has not set. Other C libraries don't have the function."""
    library = ctypes.CDLL(None)
    for number, variable, value in _GLIBC if hasattr(library, "mallopt") else ():
        if variable not in os.environ:
            library.mallopt(number, value)


_set_up_glibc()


@contextmanager
def importing() -> Iterator[None]:
    """In the block, Python does not look for cyclic garbage, and what is there at its end counts as permanent.

    For imports, which make many objects and hardly any garbage: 0.3 of the 1.7 seconds of processor time in which our
    code location is imported were spent on looking for it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
