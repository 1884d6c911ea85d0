"""The week of a download file, which does not state it.

The week is inferred from the rows' ``lastUpdateDate``, where that is a publication day of the tier, and from the date
in the file's name, if there is one; the two must agree. A file whose week can't be inferred is refused. Files are read
in ``file_reader``, their rows are parsed in ``domain``.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from otc_assets.domain.parsing.limits import UnreadableFile
from otc_assets.domain.weeks import Tier, due_at, publication_date, week_published_on, week_start_of

_DATE_IN_NAME = re.compile(r"(?<!\d)(20\d{2})-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")
#: More of a file's rows than this must have one publication day; the others are later revisions.
_MIN_PUBLISHED = 0.5
#: If more of a file's rows than this have publication days of later weeks, they are not revisions, but other weeks.
#: FINRA rewrites single rows on any weekday; the rows of one venue, if it corrected all of them, are 5 % of a file.
_MAX_REVISED = 0.1


@dataclass(frozen=True)
class TierRows:
    """The rows of one tier in a download file."""

    file_name: str
    tier: Tier
    rows: pl.DataFrame

    def week(self, stated: dt.date | None) -> dt.date:
        """The week of the rows.

        Args:
            stated: the week that the user gave with ``--week-ending``.

        Raises:
            UnreadableFile: the week can't be inferred, ``stated`` can't be right, or there are rows of other weeks.
        """
        week = self._inferred() if stated is None else self._confirmed(stated)
        self._refuse_other_weeks(week, is_confirmed=stated is not None)
        return week

    @cached_property
    def _usual(self) -> tuple[dt.date | None, int]:
        """The most frequent lastUpdateDate, and the number of its rows."""
        dates = Counter(self.rows["last_update_date"].drop_nulls().to_list())
        return dates.most_common(1)[0] if dates else (None, 0)

    @cached_property
    def _earliest(self) -> dt.date | None:
        return self.rows["last_update_date"].min()  # type: ignore[return-value]

    @cached_property
    def _week_by_rows(self) -> dt.date | None:
        """The week that was published on the day that most rows have."""
        day, count = self._usual
        return week_published_on(day, self.tier) if day and count > _MIN_PUBLISHED * self.rows.height else None

    @cached_property
    def _weeks_by_name(self) -> set[dt.date] | None:
        """The weeks whose publication day, Monday or Friday is a date in the file's name; None if it has no date."""
        days = []
        for parts in _DATE_IN_NAME.findall(self.file_name):
            try:
                days.append(dt.date(*map(int, parts)))
            except ValueError:
                continue
        if not days:
            return None
        published = {week for day in days if (week := week_published_on(day, self.tier))}
        mondays = {day + dt.timedelta(days=4) for day in days if day.weekday() == 0}
        return published | mondays | {day for day in days if day.weekday() == 4}

    def _confirmed(self, stated: dt.date) -> dt.date:
        """``stated``, if neither the calendar nor the rows contradict it."""
        week_start_of(stated)
        published = publication_date(stated, self.tier)
        if self._earliest is not None and self._earliest < published:
            raise UnreadableFile(
                self.file_name,
                f"its rows were written on {self._earliest}, and {self.tier.name} of the week ending {stated} is "
                f"published on {published}",
                "The file is of an earlier week: check --week-ending",
            )
        if self._week_by_rows not in (None, stated) and stated not in (self._weeks_by_name or ()):
            day, count = self._usual
            raise UnreadableFile(
                self.file_name,
                f"{count} of its {self.rows.height} rows were written on {day}, the publication day of the week ending "
                f"{self._week_by_rows}, and not of {stated}",
                "Check --week-ending; if FINRA did rewrite a whole week on that day, put its Friday "
                f"{stated} into the file's name as well",
            )
        return stated

    def _inferred(self) -> dt.date:
        by_rows, by_name = self._week_by_rows, self._weeks_by_name
        remedy = "State the week with --week-ending YYYY-MM-DD, its Friday"
        if by_rows is None:
            # Rows of legacy files have no date, or later ones: their week is in the file's name alone.
            possible = {
                week
                for week in by_name or ()
                if self._earliest is None or self._earliest >= publication_date(week, self.tier)
            }
            if len(possible) == 1:
                return possible.pop()
            self._refuse_several_weeks()
            day, count = self._usual
            found = f"the most frequent is {day}, in {count} of {self.rows.height} rows" if day else "none has a date"
            raise UnreadableFile(
                self.file_name,
                "its week can't be inferred: more than half of its rows must have a publication day of "
                f"{self.tier.name} as their lastUpdateDate; {found}",
                remedy,
            )
        if by_name is not None and by_rows not in by_name:
            raise UnreadableFile(
                self.file_name,
                f"its week can't be inferred: by its rows, written on {self._usual[0]}, it is the week ending "
                f"{by_rows}; the date in its name is neither that week's publication day nor its Monday or Friday",
                remedy,
            )
        return by_rows

    @cached_property
    def _published(self) -> pl.DataFrame:
        """The rows that have a publication day of the tier, with the week published on it as ``_week``."""
        days = self.rows["last_update_date"].drop_nulls().unique().to_list()
        published = [(day, week) for day in days if (week := week_published_on(day, self.tier))]
        weeks = pl.DataFrame(published, schema={"last_update_date": pl.Date, "_week": pl.Date}, orient="row")
        return self.rows.join(weeks, on="last_update_date")

    def _refuse_other_weeks(self, week: dt.date, *, is_confirmed: bool) -> None:
        """Refuses rows that are not all of ``week``.

        The website's rows do not have their week, only the day on which FINRA last wrote them. Rows written before the
        week was published are of another week. Rows written later are revisions, also if that day is the publication
        day of a later week, unless one of two things shows that they are that week's publication: they repeat a symbol
        at a venue that is already in the file, which one publication never does; or they are more than a tenth of the
        file.

        Args:
            is_confirmed: the week was stated with ``--week-ending``. If the file's name states it too, FINRA may have
                rewritten the whole week on a later publication day: then only a repeated row is proof.

        Raises:
            UnreadableFile: there are rows of other weeks.
        """
        published = publication_date(week, self.tier)
        early = self.rows.filter(pl.col("last_update_date") < published).height
        if early:
            raise self._several_weeks(f"{early} rows were written before {published}, when {week} was published")
        later = self._published.filter(pl.col("_week") > week)
        if not later.height:
            return
        key = ["symbol", "issue_name", "mpid", "participant_name"]
        others = self.rows.join(later.select("line"), on="line", how="anti").select(key).unique()
        repeated = later.drop_nulls("symbol").join(others, on=key, how="semi", nulls_equal=True).height
        if repeated:
            raise self._several_weeks(f"{repeated} rows of the later week repeat a symbol at a venue of the earlier")
        is_named = week in (self._weeks_by_name or ())
        if later.height > _MAX_REVISED * self.rows.height and not (is_confirmed and is_named):
            share = f"{later.height} of {self.rows.height} rows have the publication day of a later week"
            raise self._several_weeks(f"{share}: too many to be revisions")

    def _refuse_several_weeks(self) -> None:
        """Refuses rows that have no week in the majority if two or more weeks have many of them."""
        counts = self._published["_week"].value_counts()
        if counts.filter(pl.col("count") > _MAX_REVISED * self.rows.height).height > 1:
            raise self._several_weeks("no week has most of the rows")

    def _several_weeks(self, reason: str) -> UnreadableFile:
        counts = Counter(self._published["last_update_date"].to_list()).most_common(6)
        listed = [f"{n} of {day} (week ending {week_published_on(day, self.tier)})" for day, n in sorted(counts)]
        if others := self.rows["last_update_date"].drop_nulls().len() - sum(n for _, n in counts):
            listed.append(f"{others} of other days")
        return UnreadableFile(
            self.file_name,
            f"it holds rows of several weeks of {self.tier.name}: by lastUpdateDate, {', '.join(listed)}; {reason}",
            "Split it by lastUpdateDate into one file per week, and ingest each; where the week of one can't be "
            "determined, give it with --week-ending YYYY-MM-DD, its Friday",
        )


def refuse_future(file_name: str, week: dt.date, tier: Tier, today: dt.date | None) -> None:
    """Refuses a week that is not published by ``today``; None accepts any.

    Raises:
        UnreadableFile: it is not.
    """
    if today is not None and due_at(week, tier).date() > today:
        raise UnreadableFile(
            file_name,
            f"{tier.name} of the week ending {week} is not published before {publication_date(week, tier)}",
            "It can't be of that week: check the week, and this machine's clock",
        )
