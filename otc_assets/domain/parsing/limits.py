"""The limits of a publication's size, and the error that refuses a file.

Reading files from disk is in ``finra.download_files``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from otc_assets.errors import OtcError

#: A longer line is not a FINRA row: the longest names have about 200 characters.
MAX_LINE_BYTES = 1 << 20
#: The largest publication, T2 of a full-size week, has about 168,000 rows with FINRA's totals, and a week of all
#: tiers 264,000. As text that is 30 MB and 50 MB, as indented JSON 120 MB and 190 MB. The limits leave room for
#: several weeks of records in one file, and keep what a file can take in memory to about 2 GB.
MAX_ROWS = 1_000_000
MAX_UNPACKED_BYTES = 256 << 20
#: The text of a publication is packed to a tenth or a twentieth of its size. Small files may be more repetitive.
MAX_EXPANSION = 200
_EXPANSION_FREE_BYTES = 16 << 20
#: What a gzip file, an Excel workbook and a Parquet file begin with.
GZIP, ZIP, PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_BINARY = (GZIP, ZIP, PARQUET)


class UnreadableFile(OtcError, ValueError):
    """The bytes are not a publication in a known layout. The message says what, where, and what to do."""

    def __init__(self, name: str, problem: str, remedy: str, *, line: int | None = None) -> None:
        where = f"{name}, line {line}" if line else name
        super().__init__(f"{where}: {problem}", remedy=remedy)


def join_bounded(chunks: Iterable[bytes], *, name: str) -> bytes:
    """Joins the chunks of a file, and stops reading once it can't be a FINRA file.

    Args:
        chunks: the file from its start, in pieces of any size.
        name: where it is from, for messages.

    Raises:
        UnreadableFile: a line of delimited text is longer than 1 MiB, or the file than 256 MiB.
    """
    taken: list[bytes] = []
    size = since_newline = 0
    has_lines = True
    for chunk in chunks:
        if not taken:
            begins = chunk[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
            has_lines = not chunk.startswith(_BINARY) and begins not in (b"[", b"{")
        size += len(chunk)
        last = chunk.rfind(b"\n")
        since_newline = len(chunk) - last - 1 if last >= 0 else since_newline + len(chunk)
        if has_lines and since_newline > MAX_LINE_BYTES:
            raise UnreadableFile(name, "a line is longer than 1 MiB", "It is not a FINRA file: download it again")
        refuse_large(size, name)
        taken.append(chunk)
    return b"".join(taken)


def refuse_large(size: int, name: str) -> None:
    """Refuses a file with more bytes than several publications have.

    Raises:
        UnreadableFile: it has more.
    """
    if size > MAX_UNPACKED_BYTES:
        problem = f"it is larger than {MAX_UNPACKED_BYTES >> 20} MiB, more than any publication"
        raise UnreadableFile(name, problem, "Split it into files of one week each, or download it again")


def unpacked(read: Callable[[int], bytes], packed_bytes: int, name: str) -> Iterator[bytes]:
    """The unpacked bytes, piece by piece, up to a multiple of the packed size that no publication reaches.

    Args:
        read: unpacks at most the given number of further bytes; returns none at the end.
        packed_bytes: the packed size.
        name: where it is from, for messages.

    Raises:
        UnreadableFile: it unpacks to more than any publication would.
    """
    most = max(_EXPANSION_FREE_BYTES, MAX_EXPANSION * packed_bytes)
    size = 0
    while chunk := read(MAX_LINE_BYTES):
        size += len(chunk)
        if size > most:
            problem = f"it unpacks to more than {MAX_EXPANSION} times its size, more than any publication"
            raise UnreadableFile(name, problem, "It is not a FINRA file: download it again")
        yield chunk


def refuse_many_rows(rows: int, name: str) -> None:
    """Refuses a file with more rows than several publications have.

    Raises:
        UnreadableFile: it has more.
    """
    if rows > MAX_ROWS:
        raise UnreadableFile(
            name,
            f"it has more than {MAX_ROWS:,} rows, and the largest publication has about 170,000",
            "Split it into files of one week each; if it should hold one week, it is damaged: download it again",
        )
