"""The command ``report``."""

from __future__ import annotations

import datetime as dt
import tempfile
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from otc_assets.cli.installation import prepared_archive
from otc_assets.cli.options import friday
from otc_assets.cli.output import err, out
from otc_assets.cli.private_files import users_files
from otc_assets.domain.weeks import NEW_YORK, T1, due_at
from otc_assets.errors import OtcError
from otc_assets.settings import settings


class NoReport(OtcError):
    """There is no report of the week, and none can be made."""


def report(
    week: Annotated[
        dt.date | None, typer.Argument(parser=friday, metavar="WEEK", help="The week's Friday; else the newest week.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    pdf: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the PDF to FILE.")] = None,
) -> None:
    """Print where the report of a week is. It is made if there is none, or if its inputs have changed.

    Example: otc-assets report 2026-08-21 --pdf report.pdf
    """
    from otc_assets import report as reports
    from otc_assets.local import setup
    from otc_assets.pipeline.report import current_report, make_report, newest_computed_week
    from otc_assets.pipeline.results import WeekRefused
    from otc_assets.report.files import address
    from otc_assets.warehouse.roles import WrongRole, require_writer

    chosen, now = settings(), dt.datetime.now(NEW_YORK)
    archive = prepared_archive(chosen.archive)
    with setup.warehouse(chosen) as database:
        wanted = week or newest_computed_week(database)
        if wanted is None:
            raise NoReport("no week is computed yet", remedy="Capture weeks: 'otc-assets up' or 'materialize'.")
        reason = ""
        if current_report(wanted, database, archive) is None:
            try:
                with database.transaction() as connection:
                    require_writer(connection)
                if not make_report(wanted, database, archive, now).rows:
                    reason = f"week {wanted} is not computed, or not completely."
            except (WeekRefused, WrongRole) as error:
                reason = str(error)
    found = reports.find(archive, wanted)
    if found is None:
        due = due_at(wanted, T1)
        compute = f"Capture and compute it: otc-assets materialize --weeks {wanted}"
        raise NoReport(
            reason.rstrip("."), remedy=compute if now >= due else f"FINRA publishes the week from {due:%Y-%m-%d} on."
        )
    if reason:
        # It is as it was made: for example, retention has dropped the rows that it was made of.
        err.note("not current", "yellow", f"  the report can't be made again: {reason}")
    if pdf is not None:
        with users_files():
            pdf.write_bytes(found.pdf)
    out.print(address(chosen.archive, wanted))
    if open_page:
        webbrowser.open(_page(Path(address(chosen.archive, wanted)), found.html, wanted).as_uri())


def _page(path: Path, html: bytes, week: dt.date) -> Path:
    """The page as a file of this machine: the archive's own, or a copy if that is on S3."""
    if path.is_absolute() and path.exists():
        return path
    copy = Path(tempfile.mkdtemp(prefix="otc-report-")) / f"{week}.html"
    copy.write_bytes(html)
    return copy
