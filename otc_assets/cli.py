"""The terminal's door: parses, calls, prints. No logic.

Exit codes: 0 done; 1 something failed, and was said; 2 the command was not understood; 3 there are gaps
(``gaps --check``); 130 broken off with Ctrl-C.
"""

from __future__ import annotations

import datetime as dt
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
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column, Table

from otc_assets.domain.weeks import (
    NEW_YORK,
    T1,
    TIERS,
    Tier,
    newest_due,
    tier_of,
    week_start_of,
    weeks_between,
    weeks_up_to,
)
from otc_assets.settings import Settings, settings

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
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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
        raise typer.BadParameter(f"{weeks[-1]} is not published in any tier yet: the newest that is, is {newest}.")
    return WeekRange(weeks)


Weeks = Annotated[
    WeekRange,
    typer.Option("--weeks", parser=_weeks, metavar="A..B", help="A week (its Friday), or a range."),
]
TierOption = Annotated[
    Tier | None, typer.Option("--tier", parser=_tier, metavar="T1|T2|OTCE", help="Capture this tier alone.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _print_json(value: Any) -> None:
    out.print_json(json.dumps(value, default=str))


def _table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    right: Sequence[str] = (),
    *,
    header: bool = True,
    at_least: Mapping[str, int] | None = None,
) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=header)
    for column in columns:
        width = (at_least or {}).get(column)
        table.add_column(column, justify="right" if column in right else "left", overflow="fold", min_width=width)
    for row in rows:
        table.add_row(*("" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in row))
    out.print(table)


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on the terminal, or a line a step where there is none."""
    if not err.is_terminal:
        said: set[str] = set()

        def say(done: int, note: str) -> None:
            if note not in said:
                said.add(note)
                err.print(f"{what}: {f'{done} of {total}: ' if total else ''}{note}".rstrip(": "), soft_wrap=True)

        yield say
        return
    how_far = [BarColumn(20), MofNCompleteColumn()] if total else []
    note = TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = [SpinnerColumn(), TextColumn("{task.description}"), *how_far, TimeElapsedColumn(), note]
    with Progress(*columns, console=err) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda done, note: bar.update(task, completed=done, note=note)


@contextmanager
def _installation(chosen: Settings) -> Iterator[str]:
    """The database, migrated, and Dagster's home: what every command but ``simulate`` needs."""
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
            err.print(f"[red]failed[/red] {words}", soft_wrap=True)
        raise typer.Exit(1)


def _tiers(tier: Tier | None) -> tuple[Tier, ...]:
    return TIERS if tier is None else (tier,)


# --- the commands --------------------------------------------------------------------------------------


@app.command()
def up(
    newest: Annotated[
        int, typer.Option(min=0, help="Materialize so many of the newest weeks, where they are missing.")
    ] = 8,
    port: Annotated[int | None, typer.Option(help="Where the UI listens, on loopback. [OTC_PORT]")] = None,
) -> None:
    """Start everything: database, migrations, the Dagster UI with daemon, schedules and sensors.

    Then the newest weeks are materialized, unless they are there already. Ctrl-C stops everything; the next
    start goes on where this one stopped.
    """
    from otc_assets import local

    chosen = settings()
    if port is not None:
        chosen = chosen.model_copy(update={"port": port})
    # A shell's background jobs ignore SIGINT; a service manager sends SIGTERM. Both stop us cleanly.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with local.database(chosen) as url:
        where = "the server in OTC_DATABASE_URL" if chosen.database_url else f"embedded, in {chosen.home}/postgres"
        done = local.prepare(chosen, url)
        moved = f", migrated from {done.before or 'nothing'}" if done.before != done.after else ""
        err.print(f"database  {where}; {done.server}; schema {done.after}{moved}", soft_wrap=True)
        if done.remark:
            err.print(f"          [yellow]{done.remark}[/yellow]", soft_wrap=True)
        err.print(f"source    {chosen.source}" + (f", {chosen.files_folder}" if chosen.source == "files" else ""))
        with _progress("starting the Dagster UI", None) as tick:
            served = local.serve(chosen, lambda: tick(0, ""))
        try:
            err.print(
                f"UI        [bold]{served.url}[/bold]   log {served.log}   Ctrl-C stops everything", soft_wrap=True
            )
            with _metrics_of(url, chosen.metrics_port):
                with local.instance() as instance:
                    failed = _bring_newest(instance, newest)
                    for words in failed:
                        err.print(f"[yellow]failed[/yellow] {words}", soft_wrap=True)
                err.print(f"ready     {served.url}/asset-groups")
                while served.running():
                    time.sleep(0.5)
            raise local.NotStarted(f"the Dagster UI ended. {served.log} says:\n{local.tail(served.log)}")
        except KeyboardInterrupt:
            err.print("stopping  (a second Ctrl-C does not hurry it)")
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            served.stop()


@contextmanager
def _metrics_of(url: str, port: int) -> Iterator[None]:
    """Serves metrics beside the UI; without them everything else runs all the same."""
    from otc_assets.exporter.server import Exporter, serving

    with ExitStack() as stack:
        if port:
            try:
                where = stack.enter_context(serving(Exporter(lambda: url), "127.0.0.1", port))
                err.print(f"metrics   {where}", soft_wrap=True)
            except OSError as error:
                err.print(
                    f"[yellow]metrics[/yellow]   not served: port {port}: {error.strerror}. Choose another port, "
                    "OTC_METRICS_PORT=9465, or none, OTC_METRICS_PORT=0.",
                    soft_wrap=True,
                )
        yield


def _bring_newest(instance: Any, count: int) -> list[str]:
    """Materializes the newest weeks, as far as their publications are missing."""
    if not count:
        return []
    from otc_assets import running
    from otc_assets.resources import Warehouse

    now = dt.datetime.now(NEW_YORK)
    weeks = [w for w in weeks_up_to(newest_due(T1, now), count) if w >= settings().first_week]
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
        _print_json({"weeks": weeks.weeks, "failed": failed})
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
            _print_json(
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
    newest: Annotated[int, typer.Option(min=1, help="So many of the newest weeks.")] = 12,
    as_json: Json = False,
) -> None:
    """Show what is there: the newest weeks by tier, with rows, grades and what is stale."""
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        rows = reports.week_status(Warehouse(), newest, dt.datetime.now(NEW_YORK))
    if as_json:
        _print_json(rows)
        return
    columns = ["week_ending", *(tier.id for tier in TIERS), "rows", "grade", "shares", "state"]
    _table(columns, [[row[c] for c in columns] for row in rows], right=["rows", "shares"])


@app.command()
def gaps(
    check: Annotated[bool, typer.Option("--check", help="Exit with 3 where there are gaps.")] = False,
    pending: Annotated[bool, typer.Option(help="Show publications that are not due yet, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show which expected publications are missing, late, incomplete or empty, and whether they can be fetched."""
    from otc_assets import reports
    from otc_assets.resources import PublicationSource, Warehouse

    with _installation(settings()):
        found = reports.gap_ranges(
            Warehouse(), PublicationSource().open(), dt.datetime.now(NEW_YORK), with_pending=pending
        )
    if as_json:
        _print_json(found)
    elif not found:
        out.print(f"no gaps since {settings().first_week}")
    else:
        columns = ["first_week", "last_week", "weeks", "tier", "status", "fetchable", "detail"]
        shown = [[("yes" if r[c] else "no") if c == "fetchable" else r[c] for c in columns] for r in found]
        _table(columns, shown, right=["weeks"])
        fetchable = [r for r in found if r["fetchable"] and r["status"] != "pending"]
        if fetchable:
            first, last = min(r["first_week"] for r in fetchable), max(r["last_week"] for r in fetchable)
            out.print(f"\nTo fetch what can be: otc-assets backfill --weeks {first}..{last}")
    if check and any(r["status"] != "pending" for r in found):
        raise typer.Exit(3)


@app.command()
def storage(as_json: Json = False) -> None:
    """Show how the tables lie on disk: size, chunks, compression, and from which week on they are kept."""
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        rows = reports.storage_by_table(Warehouse())
    if as_json:
        _print_json(rows)
        return
    columns = ["table", "MB", "chunks", "compressed", "ratio", "kept_from"]
    _table(columns, [[row[c] for c in columns] for row in rows], right=columns[1:5])


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
    from otc_assets.automation.jobs import FilesToIngest
    from otc_assets.resources import Warehouse

    if folders := [path for path in files if path.is_dir()]:
        raise Refused(
            f"a folder, not a file: {', '.join(map(str, folders))}. Give the files in it, such as folder/*.csv"
        )
    absent = [path for path in files if not path.is_file()]
    if absent:
        raise Refused(f"no such file: {', '.join(map(str, absent))}")
    failed: list[str] = []
    with _dagster(settings()) as instance:
        warehouse = Warehouse()
        wanted = FilesToIngest(
            paths=[str(path.resolve()) for path in files],
            week_ending=week_ending.isoformat() if week_ending else None,
            summary_type=summary_type,
        )
        with _progress("taking in files", None) as tick:
            tick(0, ", ".join(path.name for path in files))
            try:
                run_id = running.ingest(instance, wanted)
            except running.RunFailed as error:
                failed.append(str(error))
                run_id = error.run_id
        taken = reports.captured_by(warehouse, run_id)
        stale = running.stale_weeks(warehouse)
        with _progress("making the weeks", len(stale)) as tick:
            failed += running.make_downstream(instance, stale, tick)
    if as_json:
        _print_json({"captured": taken, "weeks made": stale, "failed": failed})
    elif taken:
        columns = ["origin", "weeks", "tier", "scope", "received", "accepted", "rejected"]
        _table(columns, [[row[c] for c in columns] for row in taken], right=columns[-3:])
    elif not failed:
        out.print("nothing new: these bytes were taken in before")
    _report_failures(failed)


@app.command()
def simulate(
    folder: Annotated[Path | None, typer.Argument(help="Where to write download files.")] = None,
    weeks: Annotated[
        WeekRange | None,
        typer.Option("--weeks", parser=_weeks, metavar="A..B", help="Which weeks to write."),
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the Query API on loopback instead.")] = False,
    port: Annotated[int, typer.Option(help="The port to serve at; 0 takes a free one.")] = 8080,
    scale: Annotated[float | None, typer.Option(help="How large: 1 is FINRA's size. [OTC_SIMULATOR_SCALE]")] = None,
    seed: Annotated[int | None, typer.Option(help="Which FINRA to play. [OTC_SIMULATOR_SEED]")] = None,
) -> None:
    """Play FINRA: write download files, or serve the Query API.

    Examples: otc-assets simulate files/ --weeks 2026-08-07..2026-08-28
    or: otc-assets simulate --serve --scale 1, and elsewhere OTC_SOURCE=api OTC_FINRA_URL=http://127.0.0.1:8080
    """
    from otc_assets.finra.simulator import files as rendering
    from otc_assets.finra.simulator.generator import Simulator
    from otc_assets.finra.simulator.server import make_app
    from otc_assets.finra.simulator.server import serve as serving
    from otc_assets.resources import today_in_new_york

    chosen = settings()
    simulator = Simulator(
        seed=chosen.simulator_seed if seed is None else seed,
        scale=chosen.simulator_scale if scale is None else scale,
    )
    if serve:
        with serving(make_app(simulator, clock=today_in_new_york), port) as url:
            out.print(f"the Query API, simulated, at {url}   Ctrl-C stops it")
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
    newest: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """Show recent alerts, newest first, and how far their delivery is; 'alerts test' tries OTC_ALERT_URL."""
    if context.invoked_subcommand is not None:
        return
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        found = reports.recent_alerts(Warehouse(), newest)
    if as_json:
        _print_json(found)
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
        _table(columns, shown)


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
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    listen = chosen.metrics_port if port is None else port
    try:
        with serving(exporter_of(chosen), host, listen) as where:
            err.print(f"metrics   {where}   Ctrl-C stops it", soft_wrap=True)
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
) -> None:
    """Bring the database to the newest version, or to another one, and to what the settings say.

    A server that has got TimescaleDB since the last time, or a better edition of it, is made use of: nothing is
    lost. Changed settings (OTC_COMPRESS_AFTER_WEEKS, OTC_KEEP_..._WEEKS) take effect.
    """
    from otc_assets import local
    from otc_assets.warehouse.migrate import migrate as run

    with local.database(settings()) as url:
        done = run(url, to)
    was = "" if done.before == done.after else f", was {done.before or 'none'}"
    out.print(f"schema {done.after or 'none'}{was}; {done.server}")
    if done.remark:
        err.print(f"[yellow]{done.remark}[/yellow]", soft_wrap=True)


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
    _table(["id", "at (UTC)", "type", "what"], rows, right=["id"], header=header, at_least=at_least)


@events_app.command()
def tail(
    count: Annotated[int, typer.Option("-n", "--newest", min=0, help="So many of the newest events.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay, and show what comes; Ctrl-C ends it.")] = False,
    event_type: Annotated[
        str | None,
        typer.Option("--type", parser=_event_type, metavar="TYPE", help="Events of this type alone."),
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
                out.print(json.dumps(event, default=str), soft_wrap=True, markup=False)
        else:
            _print_events(found, header=header)

    with _installation(settings()):
        if follow:
            with _until_ctrl_c() as wait:
                for number, found in enumerate(reports.follow_events(Warehouse(), count, event_type, wait)):
                    shown(found, header=number == 0)
            raise typer.Exit(130)
        newest = reports.newest_events(Warehouse(), count, event_type)
    if newest or as_json:
        shown(newest)
    else:
        err.print("nothing has happened yet" if event_type is None else f"no {event_type} has happened yet")


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
        _print_json(event)
        return
    rows = [[name, str(event[name])] for name in ("id", "event_id", "event_type", "created_at", "what")]
    rows += [[event["aggregate_type"], f"{event['aggregate_id']}, version {event['version']}"]]
    for part in ("payload", "metadata"):
        rows += [[f"{part}.{name}", json.dumps(value)] for name, value in sorted(event[part].items())]
    _table(["field", "value"], rows)


@events_app.command()
def history(
    week: Annotated[Any, typer.Argument(parser=_friday, metavar="WEEK", help="The week, by its Friday.")],
    as_json: Json = False,
) -> None:
    """Show how far a week is, tier by tier, and all that has happened to it, oldest first.

    Example: otc-assets events history 2026-08-21
    """
    from otc_assets import reports
    from otc_assets.resources import Warehouse

    with _installation(settings()):
        told = reports.week_history(Warehouse(), week)
    if as_json:
        _print_json(told)
        return
    if not told["events"]:
        out.print(f"nothing has happened to the week ending {week} yet")
        return
    columns = ["tier", "state", "rows", "shares", "grade", "revisions"]
    shown = [{**row, "shares": None if row["shares"] is None else int(row["shares"])} for row in told["tiers"]]
    _table(columns, [[row[c] for c in columns] for row in shown], right=["rows", "shares", "revisions"])
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
        _print_json(done)
    else:
        rows = ", ".join(f"{count:,} in {table}" for table, count in done["rows"].items())
        out.print(f"{done['events']:,} events replayed; rows: {rows}")


def main() -> None:
    """The console script: every error that has words for a person is shown as such, without a traceback."""
    from pydantic import ValidationError
    from sqlalchemy.exc import DBAPIError

    try:
        sys.exit(app(standalone_mode=False) or 0)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except DBAPIError as error:
        said = str(error.orig).strip().splitlines()
        err.print(f"[red]the database refused: {said[0] if said else error}[/red]", soft_wrap=True)
        sys.exit(1)
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(["OTC", *map(str, problem["loc"])]).upper()
            err.print(f"[red]{name}[/red]: {problem['msg']}", soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        if hasattr(error, "show"):  # a mistake in the command line: usage and the reason
            error.show()
            sys.exit(2)
        if type(error).__module__.startswith("otc_assets") or isinstance(error, RuntimeError | ValueError):
            err.print(f"[red]{error}[/red]", soft_wrap=True)
            sys.exit(1)
        raise
