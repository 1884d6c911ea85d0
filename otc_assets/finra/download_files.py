"""FINRA's download files, and files of API records, as a source of publications.

The website's file does not say its week: it is settled by the rows' `lastUpdateDate`, where that is a
publication day of the tier, and by the date in the file's name, where it has one; the two must agree. What
does not settle is refused. Here: reading files from disk and settling their week. Not here: what their
rows mean (``domain``).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import polars as pl

from otc_assets.domain.enums import FileLayout
from otc_assets.domain.normalize import split
from otc_assets.domain.parsing import Parsed, parse
from otc_assets.domain.parsing.limits import MAX_LINE_BYTES, UnreadableFile, join_bounded
from otc_assets.domain.weeks import (
    TIER_BY_NAME,
    Tier,
    due_at,
    publication_date,
    week_published_on,
    week_start_of,
)
from otc_assets.finra.source import (
    ATS_HALF,
    NON_ATS_HALF,
    PARTIAL,
    Capture,
    PermanentSourceError,
    Progress,
    PublicationState,
)

log = logging.getLogger(__name__)

_DATE_IN_NAME = re.compile(r"(?<!\d)(20\d{2})-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")
#: So much of a file's rows must carry one publication day; the others are later revisions.
_MOST_ROWS = 0.5
#: More of a file's rows than this on publication days of later weeks are no revisions, but other weeks. FINRA
#: rewrites single rows on any weekday; the rows of one venue, were it to correct them all, are 5 % of a file.
_MOST_REVISED = 0.1


def printable(name: str) -> str:
    """A file's name for people, logs and the database: bytes that are not UTF-8, and control characters, escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def read_bounded(path: Path) -> bytes:
    """The bytes of a file, refused while they are read if they can be no file of FINRA's.

    Raises:
        UnreadableFile: a line is longer than 1 MiB, or the file than 2 GiB; neither is read to its end.
        PermanentSourceError: it can't be opened, is not a file, or changed while it was read.
    """
    name = printable(path.name)
    try:
        # Without waiting: to open a pipe that nobody writes to would take for ever.
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
    """The captures that a file holds: one a tier of a download file, one a (week, tier) of API records.

    Args:
        path: the file.
        week_ending: its week, where it is known; checked against the calendar all the same.
        summary_type: FINRA's ``summaryTypeCode``, for totals in a file that has no such column.
        today: weeks that are not published by this day are refused; None does not look.

    Raises:
        UnreadableFile: it is no publication, or its week can't be inferred; the message says what to do.
        PermanentSourceError: it can't be opened.
    """
    return _read(path, week_ending, summary_type, today)[0]


def _read(
    path: Path, week_ending: dt.date | None, summary_type: str | None, today: dt.date | None
) -> tuple[list[Capture], Parsed]:
    """As ``read_file``, and the file's rows beside the captures."""
    content, file_name = read_bounded(path), printable(path.name)
    parsed = parse(content, name=file_name)
    if parsed.layout in (FileLayout.API, FileLayout.API_JSON):
        captures = [
            Capture(week, tier, PARTIAL, content, file_name, summary_type=summary_type)
            for week, tier in split(parsed)
            if week_ending is None or week == week_ending
        ]
        if not captures:
            raise UnreadableFile(
                file_name,
                f"none of its records is of the week ending {week_ending}",
                "Leave out --week-ending",
            )
        for capture in captures:
            _refuse_future(file_name, capture.week_ending, capture.tier, today)
        return captures, parsed
    if not parsed.records.height:
        raise UnreadableFile(
            file_name, "it has a header and no rows", "Download it again; FINRA has no empty publications"
        )
    captures = []
    for name in parsed.records["tier_name"].unique(maintain_order=True):
        tier = TIER_BY_NAME.get(name)
        if tier is None:
            continue
        rows = parsed.records.filter(pl.col("tier_name") == name)
        week = _settle(file_name, rows, tier, week_ending)
        _refuse_other_weeks(file_name, rows, tier, week, is_confirmed=week_ending is not None)
        _refuse_future(file_name, week, tier, today)
        captures.append(
            Capture(week, tier, _half(parsed, file_name, summary_type), content, file_name, summary_type=summary_type)
        )
    if not captures:
        known = ", ".join(TIER_BY_NAME)
        found = ", ".join(map(repr, parsed.records["tier_name"].unique()))
        raise UnreadableFile(file_name, f"its tiers are unknown: {found}", f"FINRA's are {known}")
    if len(captures) > 1:
        raise UnreadableFile(
            file_name,
            f"it holds {len(captures)} tiers, and FINRA's files hold one each",
            "Ingest the files as FINRA's website provides them, one per tier",
        )
    return captures, parsed


#: How FINRA names an ATS: by its MPID, which no other venue has, and then in words.
_NAMED_BY_MPID = r"^([A-Z][A-Z0-9]{3}) "
#: Of fewer venues, the names may look so by chance; then the check `venue_identity` compares them with the week before.
_ENOUGH_VENUES = 5


def _half(parsed: Parsed, name: str, summary_type: str | None) -> str:
    """Which half of the publication a download file is: only ATSs have MPIDs.

    Raises:
        UnreadableFile: no row has an MPID, but the venues are named as ATSs are: the column was lost on the way, and
            the ATSs would pass for firms.
    """
    if summary_type is not None:
        return ATS_HALF if summary_type.startswith("ATS") else NON_ATS_HALF
    with_mpid = parsed.records["mpid"].is_not_null().sum()
    if with_mpid:
        return ATS_HALF if with_mpid * 2 > parsed.records.height else NON_ATS_HALF
    venues = parsed.records["participant_name"].unique().drop_nulls()
    mpids = venues.str.extract(_NAMED_BY_MPID).drop_nulls()
    if venues.len() >= _ENOUGH_VENUES and mpids.n_unique() == mpids.len() > _MOST_ROWS * venues.len():
        shown = ", ".join(repr(venue) for venue in venues.sort().head(3))
        raise UnreadableFile(
            name,
            f"none of its rows has an MPID, but its venues are named as ATSs are ({shown})",
            "Download it again; if its venues are firms and no ATSs, say so: --summary-type OTC_W_SMBL_FIRM",
        )
    return NON_ATS_HALF


def _dates_in(name: str) -> list[dt.date]:
    dates = []
    for year, month, day in _DATE_IN_NAME.findall(name):
        try:
            dates.append(dt.date(int(year), int(month), int(day)))
        except ValueError:
            continue
    return dates


def _weeks_meant(day: dt.date, tier: Tier) -> set[dt.date]:
    """The weeks that a date in a file's name can mean: by its publication day, its Monday, or its Friday."""
    meant = {week for week in (week_published_on(day, tier),) if week}
    if day.weekday() == 0:
        meant.add(day + dt.timedelta(days=4))
    if day.weekday() == 4:
        meant.add(day)
    return meant


def _settle(name: str, rows: pl.DataFrame, tier: Tier, told: dt.date | None) -> dt.date:
    """The week of a download file's rows.

    Raises:
        UnreadableFile: it can't be inferred, or ``told`` can't be right.
    """
    stated = Counter(rows["last_update_date"].drop_nulls().to_list())
    day, count = stated.most_common(1)[0] if stated else (None, 0)
    by_rows = week_published_on(day, tier) if day and count > _MOST_ROWS * rows.height else None
    dates = _dates_in(name)
    by_name = set().union(*(_weeks_meant(date, tier) for date in dates)) if dates else None
    if told is not None:
        week_start_of(told)
        earliest = min(stated, default=None)
        if earliest is not None and earliest < publication_date(told, tier):
            raise UnreadableFile(
                name,
                f"its rows were written on {earliest}, and {tier.name} of the week ending {told} is published on "
                f"{publication_date(told, tier)}",
                "The file is of an earlier week: check --week-ending",
            )
        if by_rows not in (None, told) and told not in (by_name or ()):
            raise UnreadableFile(
                name,
                f"{count} of its {rows.height} rows were written on {day}, the publication day of the week ending "
                f"{by_rows}, and not of {told}",
                "Check --week-ending; if FINRA did write a whole week anew on that day, put its Friday "
                f"{told} into the file's name as well",
            )
        return told
    remedy = "Say the week: --week-ending YYYY-MM-DD, its Friday"
    if by_rows is None:
        if by_name is not None and len(by_name) == 1 and not stated:
            return by_name.pop()
        legacy = {week for week in by_name or () if not stated or min(stated) >= publication_date(week, tier)}
        if len(legacy) == 1:
            return legacy.pop()
        _refuse_several_weeks(name, rows, tier)
        seen = f"{count} of its {rows.height} rows were written on {day}, which settles no week of {tier.name}'s"
        raise UnreadableFile(name, f"its week can't be inferred: {seen}", remedy)
    if by_name is not None and by_rows not in by_name:
        raise UnreadableFile(
            name,
            f"its week can't be inferred: by its rows, written on {day}, it is the week ending {by_rows}; the date in "
            "its name is neither that week's publication day nor its Monday or Friday",
            remedy,
        )
    return by_rows


def _by_publication_day(rows: pl.DataFrame, tier: Tier) -> pl.DataFrame:
    """The rows that carry a publication day of the tier's, with the week published on it as ``_week``."""
    days = rows["last_update_date"].drop_nulls().unique().to_list()
    published = [(day, week) for day in days if (week := week_published_on(day, tier))]
    weeks = pl.DataFrame(published, schema={"last_update_date": pl.Date, "_week": pl.Date}, orient="row")
    return rows.join(weeks, on="last_update_date")


def _refuse_other_weeks(name: str, rows: pl.DataFrame, tier: Tier, week: dt.date, *, is_confirmed: bool) -> None:
    """Refuses a file whose rows are not all of ``week``.

    The website's rows carry no week, only the day on which FINRA last wrote them. Rows written before the week
    was published are of another week. Rows written later are revisions, also where that day is the publication
    day of a later week, unless one of two things shows that they are that week's publication: they repeat a
    symbol at a venue that the file has already, which one publication never does; or they are more than a tenth
    of the file.

    Args:
        is_confirmed: the week was stated with ``--week-ending``. Where the file's name states it too, FINRA may
            have rewritten the whole week on a later publication day: only a repeated row is proof then.

    Raises:
        UnreadableFile: it holds rows of other weeks.
    """
    published = publication_date(week, tier)
    early = rows.filter(pl.col("last_update_date") < published)
    if early.height:
        _refuse_weeks(name, rows, tier, f"{early.height} rows were written before {published}, when {week} came out")
    dated = _by_publication_day(rows, tier)
    later = dated.filter(pl.col("_week") > week)
    if not later.height:
        return
    key = ["symbol", "issue_name", "mpid", "participant_name"]
    others = rows.join(later.select("line"), on="line", how="anti").select(key).unique()
    repeated = later.drop_nulls("symbol").join(others, on=key, how="semi", nulls_equal=True).height
    if repeated:
        _refuse_weeks(name, rows, tier, f"{repeated} rows of the later week repeat a symbol at a venue of the earlier")
    by_name = set().union(*(_weeks_meant(date, tier) for date in _dates_in(name)))
    if later.height > _MOST_REVISED * rows.height and not (is_confirmed and week in by_name):
        share = f"{later.height} of {rows.height} rows carry the publication day of a later week"
        _refuse_weeks(name, rows, tier, f"{share}: too many to be revisions")


def _refuse_several_weeks(name: str, rows: pl.DataFrame, tier: Tier) -> None:
    """Refuses a file no week of which has most of the rows, because two or more have many of them.

    Raises:
        UnreadableFile: two weeks have more than a tenth of the rows each.
    """
    groups = (
        _by_publication_day(rows, tier)["_week"].value_counts().filter(pl.col("count") > _MOST_REVISED * rows.height)
    )
    if groups.height > 1:
        _refuse_weeks(name, rows, tier, "no week has most of the rows")


def _refuse_weeks(name: str, rows: pl.DataFrame, tier: Tier, why: str) -> NoReturn:
    counts = Counter(_by_publication_day(rows, tier)["last_update_date"].to_list())
    listed = [f"{n} of {day} (week ending {week_published_on(day, tier)})" for day, n in sorted(counts.most_common(6))]
    if others := rows["last_update_date"].drop_nulls().len() - sum(n for _, n in counts.most_common(6)):
        listed.append(f"{others} of other days")
    raise UnreadableFile(
        name,
        f"it holds rows of several weeks of {tier.name}: by lastUpdateDate, {', '.join(listed)}; {why}",
        "Split it by lastUpdateDate into one file per week, and ingest each; where the week of one can't be "
        "determined, give it with --week-ending YYYY-MM-DD, its Friday",
    )


def _refuse_future(name: str, week: dt.date, tier: Tier, today: dt.date | None) -> None:
    if today is not None and due_at(week, tier).date() > today:
        raise UnreadableFile(
            name,
            f"{tier.name} of the week ending {week} is not published before {publication_date(week, tier)}",
            "It can't be of that week: check the week, and this machine's clock",
        )


@dataclass(frozen=True)
class _Known:
    """A file of the folder, and what it holds."""

    mark: tuple[int, int, dt.date]
    captures: tuple[tuple[dt.date, Tier, str], ...]
    rows: int
    last_update_date: dt.date | None
    digest: str


class DownloadFiles:
    """A folder of downloaded files, as a source.

    Files that can't be read or whose week does not settle are named in the log and left out; taking them in
    by hand (``otc-assets ingest``) says what to do.

    Args:
        folder: where they lie.
        clock: tells the day.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], dt.date]) -> None:
        self.folder = folder
        self._clock = clock
        self._known: dict[Path, _Known] = {}

    def offered(self) -> set[tuple[Tier, dt.date]]:
        """Every (tier, week_ending) that a file of the folder holds."""
        return {(tier, week) for known in self._index().values() for week, tier, _ in known.captures}

    def state(self, week_ending: dt.date, tier: Tier) -> PublicationState | None:
        """Rows and newest date of the files that hold the publication's halves."""
        files = [known for path, known in self._files_of(week_ending, tier) if known.captures[0][2] != PARTIAL]
        if not files:
            return None
        dates = [known.last_update_date for known in files if known.last_update_date]
        return PublicationState(sum(known.rows for known in files), max(dates, default=None))

    def fetch(self, week_ending: dt.date, tier: Tier, progress: Progress | None = None) -> list[Capture]:
        """The publication's files: one a half, and those of records that have some of it.

        Raises:
            PermanentSourceError: a file can't be read any more.
        """
        captures = []
        for path, _ in self._files_of(week_ending, tier):
            captures += [
                capture
                for capture in read_file(path, today=self._clock())
                if (capture.week_ending, capture.tier) == (week_ending, tier)
            ]
            if progress:
                progress(len(captures), len(captures))
        return captures

    def _files_of(self, week_ending: dt.date, tier: Tier) -> list[tuple[Path, _Known]]:
        """The files that hold the publication. Of two for one half, the one with the newer rows speaks."""
        chosen: dict[str, tuple[Path, _Known]] = {}
        for path, known in self._index().items():
            for week, of_tier, scope in known.captures:
                if (week, of_tier) != (week_ending, tier):
                    continue
                place = f"{scope} {known.digest}" if scope == PARTIAL else scope
                other = chosen.get(place)
                if other is not None:
                    newer = (known.last_update_date or dt.date.min) > (other[1].last_update_date or dt.date.min)
                    log.info(
                        "%s and %s hold the same: %s speaks",
                        other[0].name,
                        path.name,
                        (path if newer else other[0]).name,
                    )
                    if not newer:
                        continue
                chosen[place] = (path, known)
        return list(chosen.values())

    def _index(self) -> dict[Path, _Known]:
        """What every file holds; a file is read again only when it has changed."""
        found: dict[Path, _Known] = {}
        today = self._clock()
        paths = (
            sorted(p for p in self.folder.iterdir() if p.is_file() and not p.name.startswith("."))
            if self.folder.is_dir()
            else []
        )
        for path in paths:
            try:
                state = path.stat()
            except FileNotFoundError:  # it was taken away meanwhile
                continue
            # What was refused as a future week's is one of these days none any more.
            mark = (state.st_mtime_ns, state.st_size, today)
            known = self._known.get(path)
            if known is None or known.mark[:2] != mark[:2] or (not known.captures and known.mark != mark):
                try:
                    captures, parsed = _read(path, None, None, today)
                except (UnreadableFile, PermanentSourceError) as error:
                    log.warning("left out: %s", error)
                    known = _Known(mark, (), 0, None, "")
                else:
                    held = tuple((c.week_ending, c.tier, c.scope) for c in captures)
                    newest = parsed.records["last_update_date"].max()
                    digest = hashlib.sha256(captures[0].content).hexdigest()
                    known = _Known(mark, held, parsed.received, newest, digest)  # type: ignore[arg-type]
            found[path] = known
        self._known = found
        return found
