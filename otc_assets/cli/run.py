"""Commands that run things: ``up``, ``materialize`` and ``backfill``."""

from __future__ import annotations

import datetime as dt
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from otc_assets import embedded_files, interruption
from otc_assets.cli.admin import complete_journal
from otc_assets.cli.installation import launcher, launcher_of, prepared_archive
from otc_assets.cli.options import Json, OptionalWeeks, TierOption, Weeks, Yes, tiers_of
from otc_assets.cli.output import (
    err,
    exit_on_failures,
    out,
    print_first_publications,
    print_remarks,
    print_waiting,
    progress,
)
from otc_assets.cli.pace import pace
from otc_assets.domain.weeks import NEW_YORK, TIERS, newest_by_week, newest_weeks
from otc_assets.settings import Settings, settings

if TYPE_CHECKING:
    from otc_assets.defs.launch import Launcher


def up(
    newest: Annotated[
        int, typer.Option(min=0, help="Number of most recent weeks to materialize, where they are missing.")
    ] = 8,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The port of the UI, on loopback. [OTC_PORT]")
    ] = None,
    database_only: Annotated[
        bool, typer.Option("--database-only", help="Start only the database, for Dagster's own commands.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Start everything: database, migrations, and the Dagster UI with daemon, schedules and sensors.

    Then the most recent weeks are materialized, where they are missing. Ctrl-C stops everything; the next start
    continues from there.
    """
    from otc_assets.local import services, setup
    from otc_assets.local.log_files import rotate

    chosen = settings()
    if port is not None:
        chosen = chosen.model_copy(update={"port": port})
    if not database_only:
        prepared_archive(chosen.archive)
    with setup.database(chosen) as url:
        where = "the server in OTC_DATABASE_URL" if chosen.database_url else f"embedded, in {chosen.home}/postgres"
        done = setup.upgrade(chosen, url, shorten_retention=yes, waiting=print_waiting)
        migrated = f", migrated from {done.before or 'nothing'}" if done.before != done.after else ""
        err.print(f"database  {where}; {done.server}; schema {done.after}{migrated}")
        print_remarks(done, indent=" " * 10)
        err.print(f"source    {chosen.source}" + (f", {chosen.files_folder}" if chosen.source == "files" else ""))
        of_owner = setup.resolved(chosen, url)
        resolved = setup.resolved(chosen, setup.url_for(chosen, url, embedded_files.APP))
        _print_connection(chosen)
        if database_only:
            _wait_for_interrupt()
            return
        with services.right_to_serve(resolved, err.print) as only:
            with progress("starting the Dagster UI") as tick:
                served = services.serve(resolved, lambda: tick(0, ""))
            try:
                err.print(f"UI        {served.url}   log {served.log}   Ctrl-C stops everything")
                with _serve_metrics(resolved, setup.url_for(chosen, url, embedded_files.ANALYST)):
                    complete_journal(of_owner)
                    with launcher_of(resolved) as opened:
                        for text in _materialize_newest(opened, newest):
                            err.note("failed", "yellow", text)
                    err.print(f"ready     {served.url}/asset-groups")
                    err.print("next      otc-assets status; otc-assets report --open; otc-assets query describe AAPL")
                    while served.running():
                        only.hold()
                        for log in (served.log, chosen.home / "postgres" / "postgres.log"):
                            rotate(log)
                        time.sleep(0.5)
                raise setup.NotStarted(served.ended())
            except KeyboardInterrupt:
                err.print("stopping  (a second Ctrl-C has no effect)")
            finally:
                served.stop()
    if interruption.received() != signal.SIGINT:
        raise typer.Exit(interruption.exit_code())


def _print_connection(chosen: Settings) -> None:
    """How analysts connect. The URL has a password, so it is shown on a terminal only: other output may be a log."""
    from otc_assets.local.logins import LoginRole, login_url

    if chosen.database_url is None and err.is_terminal:
        err.print(f"analysts  {login_url(chosen, LoginRole.READER)}   read-only")
    else:
        err.print("analysts  'otc-assets db url' prints the URL of the database, 'otc-assets db shell' opens psql")


def _wait_for_interrupt() -> None:
    err.print('ready     for Dagster\'s own commands, after: eval "$(otc-assets env)"   Ctrl-C stops the database')
    try:
        while True:
            time.sleep(0.5)
    except KeyboardInterrupt:
        if interruption.received() != signal.SIGINT:
            raise


@contextmanager
def _serve_metrics(chosen: Settings, url: str) -> Iterator[None]:
    """Serves metrics beside the UI. Where their port is taken, everything else runs without them."""
    from otc_assets.exporter.server import exporter_of, serving

    port = chosen.metrics_port
    with ExitStack() as stack:
        if port:
            try:
                exporter = exporter_of(chosen, lambda: url)
                where = stack.enter_context(serving(exporter, "127.0.0.1", port, chosen.host_names))
                err.print(f"metrics   {where}")
            except OSError as error:
                err.note(
                    "metrics",
                    "yellow",
                    f"  not served: port {port}: {error.strerror}. Choose another port, OTC_METRICS_PORT=9465, or "
                    "none, OTC_METRICS_PORT=0.",
                )
        yield


def _materialize_newest(launcher: Launcher, count: int) -> list[str]:
    """Materializes the most recent weeks whose publications are missing. Returns what failed."""
    from otc_assets.defs.materialize import materialize, missing_weeks

    if not count:
        return []
    now = dt.datetime.now(NEW_YORK)
    print_first_publications(launcher.settings.first_week, now)
    if not (weeks := newest_weeks(count, launcher.settings.first_week, now)):
        return []
    if not (missing := missing_weeks(launcher.database, weeks, now)):
        err.print(f"weeks     the {len(weeks)} most recent, {weeks[0]} to {weeks[-1]}, are loaded")
        return []
    with progress("materializing", len(missing)) as tick:
        failed = _capture_before_revision(launcher, missing, lambda note: tick(0, note))
        return failed + materialize(launcher, missing, TIERS, tick)


def _capture_before_revision(launcher: Launcher, weeks: list[dt.date], progress: Callable[[str], None]) -> list[str]:
    """On the simulator, captures the publication that was revised last as it was before, unless it is captured.

    The weeks of a first run are all captured in their newest state. Without this, nothing of them would be a revision.
    Returns what failed.
    """
    from otc_assets.definitions import build_definitions
    from otc_assets.defs.launch import RunFailed
    from otc_assets.finra.sources import before_revision
    from otc_assets.pipeline.changes import captured_states

    if (found := before_revision(launcher.settings, weeks)) is None:
        return []
    tier, week, source = found
    if (tier, week) in captured_states(launcher.database, week, week):
        return []
    earlier = build_definitions(launcher.settings, {"warehouse": launcher.database, "source": source})
    then = replace(launcher, definitions=earlier)
    try:
        for assets in (["week_calendar", f"publication_{tier.slug}"], ["venue_volume"]):
            progress(f"{week} {tier.name} before its revision")
            then.run_assets(assets, week, week, waiting=progress)
    except RunFailed as error:
        return [f"{week} before its revision: {error}"]
    return []


def materialize(
    weeks: OptionalWeeks = None,
    newest: Annotated[
        bool, typer.Option("--newest", help="The newest week that is due, of each tier: for a scheduler such as cron.")
    ] = False,
    tier: TierOption = None,
    as_json: Json = False,
) -> None:
    """Capture weeks and materialize their downstream assets, in this process.

    Name the weeks with --weeks or with --newest. Example: otc-assets materialize --weeks 2026-08-07..2026-08-28
    """
    from otc_assets.defs.materialize import materialize

    if (weeks is None) != newest:
        raise typer.BadParameter("name the weeks with either --weeks A..B or --newest.", param_hint="--weeks")
    chosen = settings()
    if weeks is None:
        now = dt.datetime.now(NEW_YORK)
        print_first_publications(chosen.first_week, now)
        newest_due = newest_by_week(tiers_of(tier), chosen.first_week, now)
        todo = [([week], tiers) for week, tiers in newest_due.items()]
    else:
        todo = [(weeks.weeks, tiers_of(tier))]
    failed: list[str] = []
    with launcher(chosen) as opened:
        if newest:
            todo = [(some, tiers) for some, tiers in todo if _is_kept(opened, some[0])]
        for some, tiers in todo:
            with progress("materializing", len(some)) as tick:
                failed += materialize(opened, some, tiers, tick)
    if as_json:
        out.print_as_json({"weeks": [week for some, _ in todo for week in some], "failed": failed})
    exit_on_failures(failed)


def _is_kept(launcher: Launcher, week: dt.date) -> bool:
    """Whether retention keeps a week; if not, says so. The newest week of a late tier may be too old to be kept."""
    from otc_assets.defs.materialize import refuse_dropped
    from otc_assets.warehouse.retention import Dropped

    try:
        refuse_dropped(launcher.database, [week])
    except Dropped as error:
        err.note("left out", "yellow", str(error))
        return False
    return True


def backfill(
    weeks: Weeks,
    tier: TierOption = None,
    follow: Annotated[bool, typer.Option(help="Wait until the backfill has ended, and show its progress.")] = True,
    as_json: Json = False,
) -> None:
    """Launch a backfill on the running daemon of 'otc-assets up', as the UI does.

    Ctrl-C leaves the backfill running. Example: otc-assets backfill --weeks 2026-01-02..2026-06-26
    """
    from otc_assets.defs.backfill import backfill_state, follow_backfill, launch_backfill, require_daemon
    from otc_assets.local.services import served_url

    with launcher(settings()) as opened:
        require_daemon(opened.instance)
        ui_url = served_url(opened.settings)
        backfill_id = launch_backfill(ui_url, opened.database, opened.weeks, weeks.weeks, tiers_of(tier))
        shown_url = opened.settings.ui_url if opened.settings.public_url else ui_url
        err.print(f"backfill {backfill_id}: {shown_url}/runs/b/{backfill_id}")
        state = backfill_state(ui_url, backfill_id)
        if follow:
            since, so_far, text = time.monotonic(), "", ""
            with progress("backfilling") as tick:
                for state in follow_backfill(ui_url, backfill_id):
                    said = f"{state.done} of {state.of or '?'} partitions, {state.failed} failed"
                    if said != so_far:  # elsewhere than on a terminal, each text is a line
                        speed = pace(state.done, state.of, time.monotonic() - since)
                        so_far, text = said, ", ".join(filter(None, [said, speed]))
                    tick(state.done, text)
        if as_json:
            out.print_as_json(
                {
                    "backfill": backfill_id,
                    "status": state.status,
                    "done": state.done,
                    "of": state.of,
                    "failed": state.failed,
                }
            )
        if follow and not state.succeeded:
            exit_on_failures([f"the backfill ended as {state.status}: {state.failed} partitions failed"])
