"""Reading a file from disk into captures: download files of FINRA's website, and files of API records.

The week of a download file is determined in ``file_weeks``. The parsing of rows is in ``domain``.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
from pathlib import Path

import polars as pl

from otc_assets.content import Held
from otc_assets.domain.enums import CaptureScope, FileLayout
from otc_assets.domain.normalize import split
from otc_assets.domain.parsing import Parsed, parse
from otc_assets.domain.parsing.limits import MAX_LINE_BYTES, UnreadableFile, join_bounded
from otc_assets.domain.weeks import TIER_BY_NAME
from otc_assets.finra.file_weeks import TierRows, refuse_future
from otc_assets.finra.source import Capture, PermanentSourceError
from otc_assets.finra.trial import refuse_fatal
from otc_assets.text import printable_name

#: FINRA's names of ATSs begin with the MPID, which no other venue has, followed by words.
_NAMED_BY_MPID = r"^([A-Z][A-Z0-9]{3}) "
#: The names of fewer venues may look so by chance. The check `venue_identity` compares them with the week before.
_MIN_VENUES = 5


def read_bounded(path: Path) -> bytes:
    """The bytes of a file; the size is checked while it is read.

    Raises:
        UnreadableFile: a line is longer than 1 MiB, or the file is too large; neither is read to its end.
        PermanentSourceError: it can't be opened, is not a file, or changed while it was read.
    """
    name = printable_name(path.name)
    try:
        # Without waiting: opening a pipe that has no writer would take indefinitely.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as handle:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise PermanentSourceError(f"{name} can't be read: it is not a file")
            content = join_bounded(iter(lambda: handle.read(MAX_LINE_BYTES), b""), name=name)
            after = os.fstat(descriptor)
    except OSError as error:
        raise PermanentSourceError(f"{name} can't be read: {error.strerror}") from None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise PermanentSourceError(f"{name} changed while it was read", remedy="Ingest it once it is complete.")
    return content


def read_file(
    path: Path,
    *,
    week_ending: dt.date | None = None,
    summary_type: str | None = None,
    today: dt.date | None = None,
) -> list[Capture]:
    """The captures in a file: one per tier of a download file, one per (week, tier) of API records.

    Args:
        path: the file.
        week_ending: its week, if it is known; it is compared with the calendar and the rows.
        summary_type: FINRA's ``summaryTypeCode``, for totals in a file that has no such column.
        today: weeks that are not published by this day are refused; None accepts any.

    Raises:
        UnreadableFile: it is not a publication, or its week can't be inferred.
        PermanentSourceError: it can't be opened.
    """
    return read_captures_and_rows(path, week_ending, summary_type, today)[0]


def read_captures_and_rows(
    path: Path, week_ending: dt.date | None, summary_type: str | None, today: dt.date | None
) -> tuple[list[Capture], Parsed]:
    """Like ``read_file``, with the file's rows."""
    content, file_name = read_bounded(path), printable_name(path.name)
    refuse_fatal(content, file_name)
    parsed = parse(content, name=file_name)
    if parsed.layout in (FileLayout.API, FileLayout.API_JSON):
        scope = CaptureScope.PARTIAL
        weeks = [(week, tier) for week, tier in split(parsed) if week_ending in (None, week)]
        if not weeks:
            raise UnreadableFile(
                file_name, f"none of its records is of the week ending {week_ending}", "Leave out --week-ending"
            )
    else:
        rows = _rows_of_tier(parsed, file_name)
        weeks, scope = [(rows.week(week_ending), rows.tier)], _half(parsed, file_name, summary_type)
    for week, tier in weeks:
        refuse_future(file_name, week, tier, today)
    held = Held(content)
    return [Capture(week, tier, scope, held, file_name, summary_type=summary_type) for week, tier in weeks], parsed


def _rows_of_tier(parsed: Parsed, file_name: str) -> TierRows:
    """The rows of the one tier of a download file.

    Raises:
        UnreadableFile: it has no rows, or not those of one tier.
    """
    if not parsed.records.height:
        raise UnreadableFile(
            file_name, "it has a header and no rows", "Download it again; FINRA has no empty publications"
        )
    names = parsed.records["tier_name"].unique(maintain_order=True)
    known = [name for name in names if name in TIER_BY_NAME]
    if not known:
        raise UnreadableFile(
            file_name,
            f"its tiers are unknown: {', '.join(map(repr, names))}",
            f"FINRA's are {', '.join(TIER_BY_NAME)}",
        )
    if len(known) > 1:
        raise UnreadableFile(
            file_name,
            f"it holds {len(known)} tiers, and FINRA's files hold one each",
            "Ingest the files as FINRA's website provides them, one per tier",
        )
    return TierRows(file_name, TIER_BY_NAME[known[0]], parsed.records.filter(pl.col("tier_name") == known[0]))


def _half(parsed: Parsed, name: str, summary_type: str | None) -> CaptureScope:
    """Which half of the publication a download file is: only ATSs have MPIDs.

    Raises:
        UnreadableFile: no row has an MPID, but the venues are named as ATSs are. The column was lost, and the ATSs
            would be taken for firms.
    """
    if summary_type is not None:
        return CaptureScope.ATS if summary_type.startswith("ATS") else CaptureScope.NON_ATS
    with_mpid = parsed.records["mpid"].is_not_null().sum()
    if with_mpid:
        return CaptureScope.ATS if with_mpid * 2 > parsed.records.height else CaptureScope.NON_ATS
    venues = parsed.records["participant_name"].unique().drop_nulls()
    mpids = venues.str.extract(_NAMED_BY_MPID).drop_nulls()
    if venues.len() >= _MIN_VENUES and mpids.n_unique() == mpids.len() > venues.len() / 2:
        examples = ", ".join(repr(venue) for venue in venues.sort().head(3))
        raise UnreadableFile(
            name,
            f"none of its rows has an MPID, but its venues are named as ATSs are ({examples})",
            "Download it again; if its venues are firms and not ATSs, add --summary-type OTC_W_SMBL_FIRM",
        )
    return CaptureScope.NON_ATS
