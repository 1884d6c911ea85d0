"""Bytes on their way to the archive: the same whether they are in memory or come piece by piece."""

from __future__ import annotations

import gc
import hashlib
import os
from pathlib import Path

import zstandard
from hypothesis import given
from hypothesis import strategies as st

from otc_assets.content import Content, Held, Spool


@given(st.lists(st.binary(max_size=300)))
def test_a_spool_has_the_digest_the_size_and_the_bytes_of_all_its_pieces(pieces: list[bytes]) -> None:
    spool = Spool()
    for piece in pieces:
        spool.write(piece)
    joined = b"".join(pieces)
    for content in (spool, Held(joined)):
        both: Content = content
        for _ in range(2):  # it can be read again
            assert both.read() == joined
            packed = both.packed().read()
            assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == joined
        assert (both.digest, both.size) == (hashlib.sha256(joined).hexdigest(), len(joined))


def test_a_spool_is_a_compressed_file_without_a_name_that_is_closed_with_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for _ in range(1_000):
        spool.write(b"OTC|AABB|Asia|OTCN|1\n" * 100)
    assert list(tmp_path.iterdir()) == []
    file = spool.packed()
    assert os.fstat(file.fileno()).st_size < spool.size / 100
    assert os.readlink(f"/proc/self/fd/{file.fileno()}").startswith(str(tmp_path))
    del spool
    gc.collect()
    assert file.closed
