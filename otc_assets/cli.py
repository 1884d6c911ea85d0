"""Command-line interface: parsing, dispatch, output.

Exit codes: 0 done; 1 failed, with the reason on stderr; 2 usage error; 3 gaps found (``gaps --check``); 4 archived
bytes are missing or damaged (``archive verify``); 130, 143, 129 interrupted by Ctrl-C, SIGTERM, SIGHUP. Ctrl-C is the
way to end ``up``: 0.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column

from otc_assets import interruption
from otc_assets.domain.weeks import (
    NEW_YORK,
    T1,
    TIERS,
    Tier,
    newest_due,
    publication_date,
    tier_of,
    week_start_of,
    weeks_between,
    weeks_up_to,
)
from otc_assets.finra.simulator import traps
from otc_assets.settings import InvalidSettings, Settings, settings, without_secrets
from otc_assets.terminal import Terminal, printable

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="FINRA's OTC transparency data: captured whole, normalized, summarized, and reconciled.\n\n"
    "Weeks are named by the Friday they end with, YYYY-MM-DD; a range is A..B, both included. Settings come "
    "from the environment (OTC_DATABASE_URL, OTC_SOURCE, OTC_HOME, ...): see the README.",
    epilog="Begin with: otc-assets up",
)
events_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="What happened: files, weeks, figures, gaps, checks and retention, as it was told.",
    epilog="Example: otc-assets events history 2026-08-21",
)
app.add_typer(events_app, name="events")
alerts_app = typer.Typer(help="Show recent alerts, and how far their delivery is; or try it.")
app.add_typer(alerts_app, name="alerts")
captures_app = typer.Typer(
    no_args_is_help=True,
    help="Show what was captured and which captures are effective; accept, withdraw and restore captures.",
    epilog="Example: otc-assets captures list --weeks 2026-08-07..2026-08-28",
)
app.add_typer(captures_app, name="captures")
archive_app = typer.Typer(no_args_is_help=True, help="The archive of the bytes that FINRA sent.")
app.add_typer(archive_app, name="archive")
out = Terminal()
err = Terminal(stderr=True)


@dataclass(frozen=True)
class WeekRange:
    """Consecutive weeks, as named on the command line."""

    weeks: list[dt.date]


class Refused(Exception):
    """What was asked for can't be done; the message says why and what to do."""


# --- what the commands have in common ------------------------------------------------------------------


def _friday(text: str) -> dt.date:
    try:
        week = dt.date.fromisoformat(text)
        week_start_of(week)
    except ValueError as error:
        raise typer.BadParameter(f"{error}. Name a week by its Friday, as in 2026-08-21.") from None
    return week


def _tier(text: str) -> Tier:
    try:
        return tier_of(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _weeks(text: str) -> WeekRange:
    first, dots, last = text.partition("..")
    weeks = weeks_between(_friday(first), _friday(last if dots else first))
    if not weeks:
        raise typer.BadParameter(f"{text}: the range ends before it begins. Write the older week first.")
    begin, newest = settings().first_week, newest_due(T1, dt.datetime.now(NEW_YORK))
    if weeks[0] < begin:
        raise typer.BadParameter(f"{weeks[0]} is before the first week wanted, {begin} (OTC_FIRST_WEEK).")
    if weeks[-1] > newest:
        known = f"the newest that is, is {newest}" if newest >= begin else f"the first week wanted is {begin}"
        raise typer.BadParameter(f"{weeks[-1]} is not published in any tier yet: {known}.")
    return WeekRange(weeks)


Weeks = Annotated[
    WeekRange,
    typer.Option("--weeks", parser=_weeks, metavar="A..B", help="A week (its Friday), or a range."),
]
TierOption = Annotated[
    Tier | None, typer.Option("--tier", parser=_tier, metavar="T1|T2|OTCE", help="Capture this tier alone.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[
    bool,
    typer.Option("--yes", help="Shorten the stored retention where the settings do: the weeks beyond it are deleted."),
]


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on the terminal, or a line a step where there is none."""
    if not err.is_terminal:
        said: set[str] = set()

        def say(done: int, note: str) -> None:
            if note not in said:
                said.add(note)
                err.print(printable(f"{what}: {f'{done} of {total}: ' if total else ''}{note}".rstrip(": "), keep=""))

        yield say
        return
    how_far = [BarColumn(20), MofNCompleteColumn()] if total else []
    note = TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), *how_far, TimeElapsedColumn(), note]
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda done, note: bar.update(task, completed=done, note=printable(note, keep=""))


@contextmanager
def _installation(chosen: Settings) -> Iterator[str]:
    """The database and Dagster's home, for commands that leave schema and retention as they are."""
    from otc_assets import local  # Dagster takes a second to import: --help must not wait for it

    with local.database(chosen) as url:
        local.prepare(chosen, url)
        yield url


@contextmanager
def _dagster(chosen: Settings) -> Iterator[Any]:
    """A prepared installation and its Dagster instance."""
    from otc_assets import local

    with _installation(chosen), local.instance() as instance:
        yield instance


def _report_failures(failed: Sequence[str]) -> None:
    if failed:
        for words in failed:
            err.note("failed", "red", words)
        raise typer.Exit(1)


def _say_waiting() -> None:
    err.print(
        "waiting   up to 75 s, to be certain that no Dagster daemon of an earlier version is running", soft_wrap=True
    )


def _restore_raw_rows() -> None:
    """Refills ``raw_record`` from the archive where its retention was raised; what fails is printed as a warning."""
    from otc_assets.assets import raw_rows
    from otc_assets.resources import RawArchive, Warehouse

    if not (captures := raw_rows.restorable(Warehouse())):
        return
    with _progress("restoring raw rows from the archive", len(captures)) as tick:
        failed = raw_rows.restore(captures, Warehouse(), RawArchive(), tick)
    err.print(f"raw rows  {len(captures) - len(failed)} of {len(captures)} captures restored from the archive")
    for words in failed[:5]:
        err.note("not restored", "yellow", words)
    if len(failed) > 5:
        err.note("not restored", "yellow", f"and {len(failed) - 5} more: otc-assets archive verify lists them")


def _tiers(tier: Tier | None) -> tuple[Tier, ...]:
    return TIERS if tier is None else (tier,)


# --- the commands --------------------------------------------------------------------------------------


@app.command()
def up(
    newest: Annotated[
        int, typer.Option(min=0, help="Materialize so many of the newest weeks, where they are missing.")
    ] = 8,
    port: Annotated[int | None, typer.Option(help="Where the UI listens, on loopback. [OTC_PORT]")] = None,
    yes: Yes = False,
) -> None:
    """Start everything: database, migrations, the Dagster UI with daemon, schedules and sensors.

    Then the newest weeks are materialized, unless they are there already. Ctrl-C stops everything; the next
    start goes on where this one stopped.
    """
    from otc_assets import local

    chosen = settings()
    if port is not None:
        chosen = chosen.model_copy(update={"port": port})
    with local.database(chosen) as url:
        where = "the server in OTC_DATABASE_URL" if chosen.database_url else f"embedded, in {chosen.home}/postgres"
        done = local.upgrade(chosen, url, shorten_retention=yes, waiting=_say_waiting)
        moved = f", migrated from {done.before or 'nothing'}" if done.before != done.after else ""
        err.print(f"database  {where}; {done.server}; schema {done.after}{moved}")
        if done.remark:
            err.note("", "yellow", f"          {done.remark}")
        for shorter in done.held_back:
            err.note("", "yellow", f"          {shorter}")
        err.print(f"source    {chosen.source}" + (f", {chosen.files_folder}" if chosen.source == "files" else ""))
        with local.right_to_serve(chosen, url, err.print) as only:
            with _progress("starting the Dagster UI", None) as tick:
                served = local.serve(chosen, lambda: tick(0, ""))
            try:
                err.print(f"UI        {served.url}   log {served.log}   Ctrl-C stops everything")
                with _metrics_of(url, chosen.metrics_port):
                    _restore_raw_rows()
                    with local.instance() as instance:
                        failed = _bring_newest(instance, newest)
                        for words in failed:
                            err.note("failed", "yellow", words)
                    err.print(f"ready     {served.url}/asset-groups")
                    while served.running():
                        only.hold()
                        time.sleep(0.5)
                raise local.NotStarted(f"the Dagster UI ended. {served.log} says:\n{local.tail(served.log)}")
            except KeyboardInterrupt:
                err.print("stopping  (a second Ctrl-C does not hurry it)")
            finally:
                served.stop()
    if interruption.received() != signal.SIGINT:
        raise typer.Exit(interruption.exit_code())


@contextmanager
def _metrics_of(url: str, port: int) -> Iterator[None]:
    """Serves metrics beside the UI; without them everything else runs all the same."""
    from otc_assets.exporter.server import Exporter, serving

    with ExitStack() as stack:
        if port:
            try:
                where = stack.enter_context(serving(Exporter(lambda: url), "127.0.0.1", port, settings().host_names))
                err.print(f"metrics   {where}")
            except OSError as error:
                err.note(
                    "metrics",
                    "yellow",
                    f"  not served: port {port}: {error.strerror}. Choose another port, OTC_METRICS_PORT=9465, or "
                    "none, OTC_METRICS_PORT=0.",
                )
        yield


def _say_what_begins_later(now: dt.datetime) -> None:
    """Says on which day the tiers begin of which the first week wanted is not published yet."""
    first = settings().first_week
    for tier in TIERS:
        if newest_due(tier, now) < first:
            err.print(f"{tier.id:<10}begins on {publication_date(first, tier)}, with the week {first} (OTC_FIRST_WEEK)")


def _bring_newest(instance: Any, count: int) -> list[str]:
    """Materializes the newest weeks, as far as their publications are missing."""
    if not count:
        return []
    from otc_assets import running
    from otc_assets.resources import Warehouse

    now = dt.datetime.now(NEW_YORK)
    weeks = [w for w in weeks_up_to(newest_due(T1, now), count) if w >= settings().first_week]
    _say_what_begins_later(now)
    if not weeks:
        return []
    missing = running.missing_weeks(Warehouse(), weeks, now)
    if not missing:
        err.print(f"weeks     the newest {len(weeks)}, {weeks[0]} to {weeks[-1]}, are there")
        return []
    with _progress("materializing", len(missing)) as tick:
        return running.materialize(instance, missing, TIERS, tick)


@app.command()
def materialize(weeks: Weeks, tier: TierOption = None, as_json: Json = False) -> None:
    """Capture weeks and make everything of them, in this process.

    Example: otc-assets materialize --weeks 2026-08-07..2026-08-28
    """
    from otc_assets import running

    with _dagster(settings()) as instance, _progress("materializing", len(weeks.weeks)) as tick:
        failed = running.materialize(instance, weeks.weeks, _tiers(tier), tick)
    if as_json:
        out.print_as_json({"weeks": weeks.weeks, "failed": failed})
    _report_failures(failed)


@app.command()
def backfill(
    weeks: Weeks,
    tier: TierOption = None,
    follow: Annotated[bool, typer.Option(help="Stay until it has ended, and show how far it is.")] = True,
    as_json: Json = False,
) -> None:
    """Have the daemon of a running 'otc-assets up' capture and make weeks, as the UI's dialog does.

    Ctrl-C leaves the backfill running. Example: otc-assets backfill --weeks 2026-01-02..2026-06-26
    """
    from otc_assets import running

    with _dagster(settings()) as instance:
        if not running.daemon_is_alive(instance):
            raise Refused(
                "no daemon runs here, which would carry out the backfill. Start 'otc-assets up' in another "
                "terminal, or use 'otc-assets materialize', which does the work itself."
            )
        backfill_id = running.launch_backfill(instance, weeks.weeks, _tiers(tier))
        err.print(f"backfill {backfill_id}: http://127.0.0.1:{settings().port}/runs/b/{backfill_id}")
        state = running.backfill_state(instance, backfill_id)
        if follow:
            with _progress("backfilling", None) as tick:
                while not state.ended:
                    time.sleep(1)
                    state = running.backfill_state(instance, backfill_id)
                    tick(state.done, f"{state.done} of {state.of or '?'} partitions, {state.failed} failed")
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
            _report_failures([f"the backfill ended as {state.status}: {state.failed} partitions failed"])


@app.command()
def status(
    newest: Annotated[int, typer.Option(min=1, help="Number of most recent weeks.")] = 12,
    as_json: Json = False,
) -> None:
    """Show the most recent weeks: rows by tier, grade, and which tables are stale."""
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        rows = reports.week_status(Warehouse(), newest, dt.datetime.now(NEW_YORK))
    if as_json:
        out.print_as_json(rows)
        return
    if not rows:
        _say_what_begins_later(dt.datetime.now(NEW_YORK))
        return
    columns = ["week_ending", *(tier.id for tier in TIERS), "rows", "grade", "shares", "state"]
    out.print_table(columns, [[row[c] for c in columns] for row in rows], right=["rows", "shares"])


@app.command()
def gaps(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Exit with 3 if there are gaps. Pending weeks and weeks never requested do not count."
        ),
    ] = False,
    pending: Annotated[bool, typer.Option(help="Include publications that are not due yet.")] = False,
    as_json: Json = False,
) -> None:
    """Show which expected publications are missing, late, incomplete or empty, and whether they can be fetched.

    Weeks before a tier's first captured week were never requested. They are listed by tier and are not gaps:
    --check does not count them.
    """
    from otc_assets import reports
    from otc_assets.resources import PublicationSource, Warehouse

    with _installation(settings()):
        found = reports.gap_ranges(
            Warehouse(), PublicationSource().open(), dt.datetime.now(NEW_YORK), with_pending=pending
        )
    history = [r for r in found if r["status"] == "never_requested"]
    since = [r for r in found if r["status"] != "never_requested"]
    missing = [r for r in since if r["status"] != "pending"]
    if as_json:
        out.print_as_json(found)
    else:
        if since:
            columns = ["first_week", "last_week", "weeks", "tier", "status", "fetchable", "detail"]
            shown = [[("yes" if r[c] else "no") if c == "fetchable" else r[c] for c in columns] for r in since]
            out.print_table(columns, shown, right=["weeks"])
        else:
            out.print("no gaps since the first captured week" if history else f"no gaps since {settings().first_week}")
        _print_backfill("To fetch missing weeks", missing)
        for r in history:
            weeks = f"{r['first_week']}..{r['last_week']}, {r['weeks']} weeks"
            out.print(f"never requested: {r['tier']} {weeks}, {r['detail']}")
        _print_backfill("To capture this history", history)
    if check and missing:
        raise typer.Exit(3)


def _print_backfill(purpose: str, gaps: Sequence[Mapping[str, Any]]) -> None:
    fetchable = [gap for gap in gaps if gap["fetchable"]]
    if fetchable:
        first, last = min(gap["first_week"] for gap in fetchable), max(gap["last_week"] for gap in fetchable)
        out.print(f"{purpose}: otc-assets backfill --weeks {first}..{last}")


@app.command()
def storage(as_json: Json = False) -> None:
    """Show how the tables lie on disk: size, chunks, compression, and from which week on they are kept."""
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        rows = reports.storage_by_table(Warehouse())
    if as_json:
        out.print_as_json(rows)
        return
    columns = ["table", "MB", "chunks", "compressed", "ratio", "kept_from"]
    out.print_table(columns, [[row[c] for c in columns] for row in rows], right=columns[1:5])


@app.command()
def ingest(
    files: Annotated[list[Path], typer.Argument(help="Files of FINRA's website, or of API records.")],
    week_ending: Annotated[
        dt.date | None,
        typer.Option(parser=_friday, metavar="DATE", help="The week (its Friday), where a file does not settle it."),
    ] = None,
    summary_type: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="FINRA's summaryTypeCode, for totals in a file that has no such column."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in downloaded files, and make everything of their weeks.

    The week of a download file is settled by its rows and its name, and refused where they don't settle it.
    """
    from otc_assets import reports, running
    from otc_assets.automation.file_drop import encode_path
    from otc_assets.automation.jobs import FilesToIngest
    from otc_assets.finra.download_files import printable
    from otc_assets.resources import Warehouse

    if folders := [path for path in files if path.is_dir()]:
        raise Refused(
            f"a folder, not a file: {', '.join(map(str, folders))}. Give the files in it, such as folder/*.csv"
        )
    absent = [path for path in files if not path.is_file()]
    if absent:
        raise Refused(f"no such file: {', '.join(printable(str(path)) for path in absent)}")
    failed: list[str] = []
    with _dagster(settings()) as instance:
        warehouse = Warehouse()
        wanted = FilesToIngest(
            paths=[encode_path(str(path.resolve())) for path in files],
            week_ending=week_ending.isoformat() if week_ending else None,
            summary_type=summary_type,
        )
        with _progress("taking in files", None) as tick:
            tick(0, ", ".join(printable(path.name) for path in files))
            try:
                run_id = running.ingest(instance, wanted, lambda note: tick(0, note))
            except running.RunFailed as error:
                failed.append(str(error))
                run_id = error.run_id
        with _progress("computing weeks", None) as tick:
            about = running.weeks_of_run(instance, run_id)
            computed = running.compute_stale(instance, about, tick, others=True)
        failed += computed.failed
        taken = reports.ingested(warehouse, [_sha256(path) for path in files], run_id)
    for words in computed.others_failed:
        err.note("other weeks", "yellow", f"than those of these files could not be computed: {words}")
    if as_json:
        out.print_as_json(
            {
                "captured": taken,
                "weeks made": computed.weeks,
                "failed": failed,
                "other weeks failed": computed.others_failed,
            }
        )
    else:
        if taken:
            columns = ["origin", "weeks", "tier", "scope", "accepted", "rejected", "in_use", "status"]
            out.print_table(columns, [[row[c] for c in columns] for row in taken], right=columns[4:7])
        for row in taken:
            if row["detail"]:
                out.print(f"{row['origin']}: {row['status']}: {row['detail']}")
        if taken and not failed and all(row["already_ingested"] for row in taken):
            out.print("already ingested; no changes")
        if weeks := computed.weeks:
            span = str(weeks[0]) if len(weeks) == 1 else f"{weeks[0]}..{weeks[-1]}"
            out.print(f"computed {len(weeks)} {'week' if len(weeks) == 1 else 'weeks'}: {span}")
    _report_failures(failed)


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@app.command(epilog=f"Traps, with their defaults:\n\n{escape(traps.describe())}")
def simulate(
    folder: Annotated[Path | None, typer.Argument(help="Where to write download files.")] = None,
    weeks: Annotated[
        WeekRange | None,
        typer.Option("--weeks", parser=_weeks, metavar="A..B", help="Which weeks to write."),
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the Query API on loopback instead.")] = False,
    port: Annotated[int, typer.Option(help="The port to serve at; 0 takes a free one.")] = 8080,
    scale: Annotated[
        float | None, typer.Option(help="Size of the simulated data; 1 is FINRA's size. [OTC_SIMULATOR_SCALE]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulated data. [OTC_SIMULATOR_SEED]")] = None,
    trap: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A fault of the served API, from the list below; may be repeated."),
    ] = None,
) -> None:
    """Simulate FINRA: write download files, or serve the Query API, with faults on request.

    Examples: otc-assets simulate files/ --weeks 2026-08-07..2026-08-28
    or: otc-assets simulate --serve --scale 1, and elsewhere OTC_SOURCE=api OTC_FINRA_URL=http://127.0.0.1:8080
    or: otc-assets simulate --serve --trap reset=3 --trap slow=5 --trap slow_seconds=120
    """
    from otc_assets.finra.simulator import files as rendering
    from otc_assets.finra.simulator.generator import Simulator
    from otc_assets.finra.simulator.server import make_app
    from otc_assets.finra.simulator.server import serve as serving
    from otc_assets.resources import today_in_new_york

    if trap and not serve:
        raise typer.BadParameter("traps are faults of the served Query API. Add --serve.", param_hint="--trap")
    try:
        chosen_traps = traps.parse(trap or [])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--trap") from None
    chosen = settings()
    simulator = Simulator(
        seed=chosen.simulator_seed if seed is None else seed,
        scale=chosen.simulator_scale if scale is None else scale,
    )
    if serve:
        with serving(make_app(simulator, clock=today_in_new_york, traps=chosen_traps), port) as url:
            out.print(f"simulated Query API at {url}   Ctrl-C stops it")
            while True:
                time.sleep(1)
    if folder is None or weeks is None:
        raise Refused("say where to and which weeks: otc-assets simulate FOLDER --weeks A..B; or --serve")
    done = 0
    with _progress("writing files", None) as tick:

        def written(path: Path) -> None:
            nonlocal done
            done += 1
            tick(done, path.name)

        paths = rendering.write_files(simulator, folder, weeks.weeks, TIERS, today_in_new_york(), written)
    out.print(f"{len(paths)} files in {folder}")


@alerts_app.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    newest: Annotated[int, typer.Option(min=1, help="Number of most recent alerts.")] = 20,
    as_json: Json = False,
) -> None:
    """Show recent alerts and their delivery, newest first. 'alerts test' sends a test message to OTC_ALERT_URL."""
    if context.invoked_subcommand is not None:
        return
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        found = reports.recent_alerts(Warehouse(), newest)
    if as_json:
        out.print_as_json(found)
    elif not found:
        out.print("no alerts yet")
    else:
        columns = ["happened", "severity", "alert", "over", "delivery"]
        minute = "%Y-%m-%d %H:%M"
        shown = [
            [
                row["happened_at"].strftime(minute),
                row["severity"],
                row["title"],
                row["resolved_at"].strftime(minute) if row["resolved_at"] else "",
                row["delivery"],
            ]
            for row in found
        ]
        out.print_table(columns, shown)


@alerts_app.command("test")
def alerts_test() -> None:
    """Send a test message to every destination in OTC_ALERT_URL, and say whether it arrived."""
    from otc_assets.automation.delivery import send_test

    failed = []
    for name, error in send_test():
        if error is None:
            out.print(f"arrived {name}")
        else:
            failed.append(error)
    _report_failures(failed)


@app.command()
def metrics(
    host: Annotated[
        str, typer.Option(help="The address to listen on. Whoever reaches it can read the metrics.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="The port to listen on. [OTC_METRICS_PORT]")] = None,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics instead, and end.")] = False,
) -> None:
    """Serve metrics to Prometheus until Ctrl-C; 'otc-assets up' does so too.

    Reads the database and changes nothing in it. Exits with 1 where --once finds no database.
    """
    from otc_assets.exporter.server import exporter_of, exposition, serving

    chosen = settings()
    if once:
        from otc_assets import local

        with local.database(chosen):
            exporter = exporter_of(chosen)
            print(exposition(exporter), end="")
            exporter.close()
        if not exporter.up:
            raise typer.Exit(1)
        return
    listen = chosen.metrics_port if port is None else port
    try:
        with serving(exporter_of(chosen), host, listen, chosen.host_names) as where:
            err.print(f"metrics   {where}   Ctrl-C stops it")
            while True:
                time.sleep(1)
    except OSError as error:
        raise Refused(
            f"can't listen on {host}, port {listen}: {error.strerror}. Choose another with --host or --port "
            "(OTC_METRICS_PORT)."
        ) from None


@app.command()
def migrate(
    to: Annotated[str, typer.Option(help="A migration's number; 'base' for none.")] = "head",
    yes: Yes = False,
) -> None:
    """Bring the database to the newest version, or to another one, and to what the settings say.

    A server that has got TimescaleDB since the last time, or a better edition of it, is made use of: nothing is
    lost. Changed settings (OTC_COMPRESS_AFTER_WEEKS, OTC_KEEP_..._WEEKS) take effect; shorter retention only with
    --yes, because it deletes weeks. Without it the stored retention stays, and the exit code is 1.
    """
    from otc_assets import local
    from otc_assets.warehouse.migrate import migrate as run

    with local.database(settings()) as url:
        if to == "head":
            done = local.upgrade(settings(), url, shorten_retention=yes, waiting=_say_waiting)
            _restore_raw_rows()
        else:
            done = run(url, to, shorten_retention=yes)
    was = "" if done.before == done.after else f", was {done.before or 'none'}"
    out.print(f"schema {done.after or 'none'}{was}; {done.server}")
    if done.remark:
        err.note("", "yellow", done.remark)
    for shorter in done.held_back:
        err.note("", "yellow", str(shorter))
    if done.held_back:
        raise typer.Exit(1)


# --- archive -------------------------------------------------------------------------------------------


@archive_app.command()
def verify(
    sample: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Verify N objects, chosen at random, instead of all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read the archived bytes of every capture and compare them with their digest.

    Exits with 4 if bytes are missing or damaged. Example: otc-assets archive verify --sample 200
    """
    from otc_assets import reports
    from otc_assets.resources import RawArchive, Warehouse

    with _installation(settings()), _progress("verifying the archive", None) as tick:
        verified, damaged = reports.damaged_captures(Warehouse(), RawArchive().open(), sample, tick)
    if as_json:
        out.print_as_json({"verified": verified, "damaged": damaged})
    elif damaged:
        columns = ["week_ending", "tier", "publication", "scope", "problem", "origin", "digest"]
        shown = [[row[c][:16] if c == "digest" else str(row[c]) for c in columns] for row in damaged]
        out.print_table(columns, shown)
        out.print(f"\n{damaged[0]['detail']}", soft_wrap=True)
    else:
        out.print(f"{verified:,} archived objects verified: each has the bytes of its digest")
    if damaged:
        raise typer.Exit(4)


# --- events --------------------------------------------------------------------------------------------


def _event_type(text: str) -> str:
    from otc_assets.warehouse.events import PAYLOADS

    if text not in PAYLOADS:
        raise typer.BadParameter(f"there is no event type {text!r}. There are {', '.join(sorted(PAYLOADS))}.")
    return text


def _event_id(text: str) -> int | UUID:
    try:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else UUID(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither an event's number nor its event_id (a UUID).") from None


@contextmanager
def _until_ctrl_c() -> Iterator[Callable[[float], bool]]:
    """A wait of so many seconds that ends, and is true, once Ctrl-C was pressed.

    So that it breaks off between two statements: in the midst of one, the driver's own error covers it up. A
    second Ctrl-C breaks off at once.
    """
    pressed = threading.Event()

    def press(*_: object) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.wait
    finally:
        signal.signal(signal.SIGINT, before)


def _print_events(found: Sequence[dict[str, Any]], *, header: bool = True) -> None:
    rows = [[str(e["id"]), e["created_at"][:19].replace("T", " "), e["event_type"], e["what"]] for e in found]
    # Wide enough for any event, so that the columns of what comes later stand under those of what came first.
    at_least = {"id": 6, "at (UTC)": 19, "type": 21}
    out.print_table(["id", "at (UTC)", "type", "what"], rows, right=["id"], header=header, at_least=at_least)


@events_app.command()
def tail(
    count: Annotated[int, typer.Option("-n", "--newest", min=0, help="Number of most recent events.")] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep running and print new events; Ctrl-C stops it.")
    ] = False,
    event_type: Annotated[
        str | None,
        typer.Option("--type", parser=_event_type, metavar="TYPE", help="Only events of this type."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object a line, for programs.")] = False,
) -> None:
    """Show the newest events, oldest first.

    With --follow none is left out and none comes twice; an event shows once every transaction that began to write
    before its own has ended. Example: otc-assets events tail --follow --type otc.week.revised
    """
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    def shown(found: Sequence[dict[str, Any]], *, header: bool = True) -> None:
        if as_json:
            for event in found:
                out.print_as_json(event, indent=None)
        else:
            _print_events(found, header=header)

    with _installation(settings()):
        if follow:
            with _until_ctrl_c() as wait:
                for number, found in enumerate(reports.follow_events(Warehouse(), count, event_type, wait)):
                    shown(found, header=number == 0)
            raise typer.Exit(interruption.exit_code())
        newest = reports.newest_events(Warehouse(), count, event_type)
    if newest or as_json:
        shown(newest)
    else:
        err.print("no events yet" if event_type is None else f"no {event_type} events yet")


@events_app.command()
def show(
    event_id: Annotated[
        Any, typer.Argument(parser=_event_id, metavar="EVENT_ID", help="The event's number, or its event_id.")
    ],
    as_json: Json = False,
) -> None:
    """Show all that is stored of one event.

    Example: otc-assets events show 42
    """
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        event = reports.event_of(Warehouse(), event_id)
    if event is None:
        raise Refused(f"there is no event {event_id}. otc-assets events tail shows the newest.")
    if as_json:
        out.print_as_json(event)
        return
    rows = [[name, str(event[name])] for name in ("id", "event_id", "event_type", "created_at", "what")]
    rows += [[event["aggregate_type"], f"{event['aggregate_id']}, version {event['version']}"]]
    for part in ("payload", "metadata"):
        rows += [[f"{part}.{name}", json.dumps(value)] for name, value in sorted(event[part].items())]
    out.print_table(["field", "value"], rows)


@events_app.command()
def history(
    week: Annotated[Any, typer.Argument(parser=_friday, metavar="WEEK", help="The week, by its Friday.")],
    as_json: Json = False,
) -> None:
    """Show the state of a week by tier, and all its events, oldest first.

    Example: otc-assets events history 2026-08-21
    """
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        told = reports.week_history(Warehouse(), week)
    if as_json:
        out.print_as_json(told)
        return
    if not told["events"]:
        out.print(f"no events for the week ending {week}")
        return
    columns = ["tier", "state", "rows", "shares", "grade", "revisions"]
    shown = [{**row, "shares": None if row["shares"] is None else int(row["shares"])} for row in told["tiers"]]
    out.print_table(columns, [[row[c] for c in columns] for row in shown], right=["rows", "shares", "revisions"])
    out.print()
    _print_events(told["events"])


@events_app.command()
def replay(as_json: Json = False) -> None:
    """Make week_state, file_ledger and gap_ledger anew, of the events alone; nothing else is written meanwhile.

    Example: otc-assets events replay
    """
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        done = reports.replay_events(Warehouse())
    if as_json:
        out.print_as_json(done)
    else:
        rows = ", ".join(f"{count:,} in {table}" for table, count in done["rows"].items())
        out.print(f"{done['events']:,} events replayed; rows: {rows}")


# --- captures ------------------------------------------------------------------------------------------

CaptureId = Annotated[int, typer.Argument(metavar="ID", help="The capture's id, as 'captures list' shows it.")]


@captures_app.command("list")
def captures_list(
    weeks: Annotated[
        WeekRange | None,
        typer.Option("--weeks", parser=_weeks, metavar="A..B", help="Which weeks; without it, all."),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only these: effective, superseded, quarantined, withdrawn or empty."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List captures, oldest week first, with their status.

    effective: the week is computed from it. superseded: another capture has newer rows. quarantined: it lacks a large
    part of the capture before it, or was cut off, and waits for a decision. empty: no row of it was accepted.
    """
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    known = ("effective", "superseded", "quarantined", "withdrawn", "empty")
    if status is not None and status not in known:
        raise typer.BadParameter(f"there is no status {status!r}. There are {', '.join(known)}.")
    span = (weeks.weeks[0], weeks.weeks[-1]) if weeks else (dt.date.min, dt.date.max)
    with _installation(settings()):
        found = [r for r in reports.captures(Warehouse(), *span) if status in (None, r["status"])]
    if as_json:
        out.print_as_json(found)
    elif not found:
        out.print("no captures")
    else:
        columns = ["id", "week_ending", "tier", "scope", "rows", "in_use", "updated", "status", "origin"]
        shown = [
            [
                str(r["id"]),
                r["week_ending"],
                r["tier"],
                r["scope"],
                r["rows_accepted"],
                r["rows_in_use"],
                r["last_update_date"],
                r["status"],
                r["origin"].rpartition("/")[2],  # of an address, what was asked for
            ]
            for r in found
        ]
        out.print_table(columns, shown, right=["id", "rows", "in_use"])


@captures_app.command("show")
def captures_show(capture_id: CaptureId, as_json: Json = False) -> None:
    """Show all that is recorded of a capture."""
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        found = next((r for r in reports.captures(Warehouse()) if r["id"] == capture_id), None)
    if found is None:
        raise Refused(f"there is no capture {capture_id}. 'otc-assets captures list' shows the captures there are.")
    if as_json:
        out.print_as_json(found)
        return
    out.print_table(["field", "value"], [[name, str(value)] for name, value in found.items() if value is not None])


@captures_app.command("accept")
def captures_accept(capture_id: CaptureId) -> None:
    """Make a quarantined capture effective, and recompute its week.

    Example: otc-assets captures accept 52
    """
    from otc_assets.pipeline import captures

    _decide_on_capture(lambda connection: captures.accept(connection, capture_id), "effective")


@captures_app.command("withdraw")
def captures_withdraw(
    capture_id: CaptureId,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded with the withdrawal.")],
) -> None:
    """Make a capture ineffective, and recompute its week. 'captures restore' takes it back.

    Example: otc-assets captures withdraw 52 --reason "downloaded from a test page"
    """
    from otc_assets.pipeline import captures

    _decide_on_capture(lambda connection: captures.withdraw(connection, capture_id, reason), "withdrawn")


@captures_app.command("restore")
def captures_restore(capture_id: CaptureId) -> None:
    """Take the withdrawal of a capture back, and recompute its week."""
    from otc_assets.pipeline import captures

    _decide_on_capture(lambda connection: captures.restore(connection, capture_id), "restored")


def _decide_on_capture(decide: Callable[[Any], Any], done: str) -> None:
    from otc_assets import running
    from otc_assets.resources import Warehouse

    with _dagster(settings()) as instance:
        warehouse = Warehouse()
        with warehouse.transaction() as connection:
            capture = decide(connection)
        out.print(f"capture {capture.id} of {capture.tier}, week ending {capture.week_ending}, is {done}")
        with _progress("computing weeks", None) as tick:
            failed = running.compute_stale(instance, [capture.week_ending], tick).failed
    _report_failures(failed)


def main() -> None:
    """The console script: every error that has words for a person is shown as such, without a traceback."""
    with interruption.handled():
        code = _run()
        # Whatever an interrupted command said in the end: it was interrupted.
        if code and interruption.received() is not None:
            code = interruption.exit_code()
    sys.exit(code)


def _run() -> int:
    """Runs the command that was asked for, and prints its error. Returns the exit code."""
    from sqlalchemy.exc import DBAPIError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal of another encoding shows escapes of what it does not have.
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(app(standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt):
        return interruption.exit_code()
    except DBAPIError as error:
        said = str(error.orig).strip().splitlines()
        words = said[0] if said else type(error.orig).__name__
        err.note("", "red", f"the database refused: {without_secrets(words)}")
        return 1
    except InvalidSettings as error:
        err.note("", "red", str(error))
        return 2
    except Exception as error:
        if hasattr(error, "show"):  # a mistake in the command line: usage and the reason
            if isinstance(getattr(error, "message", None), str):
                error.message = printable(error.message)  # type: ignore[attr-defined]
            error.show()
            return 2
        if type(error).__module__.startswith("otc_assets") or isinstance(error, RuntimeError | ValueError):
            err.note("", "red", without_secrets(str(error)))
            return 1
        raise
