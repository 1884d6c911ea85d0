"""Commands that show the state of the warehouse: ``status``, ``gaps``, ``storage`` and ``alerts``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from otc_assets.cli.options import MOST_ROWS, MOST_WEEKS, Json
from otc_assets.cli.output import exit_on_failures, out, print_first_publications
from otc_assets.domain.enums import GapStatus
from otc_assets.domain.weeks import NEW_YORK, TIERS
from otc_assets.settings import settings


def status(
    newest: Annotated[int, typer.Option(min=1, max=MOST_WEEKS, help="Number of most recent weeks.")] = 12,
    as_json: Json = False,
) -> None:
    """Show the most recent weeks: rows by tier, grade, and which tables are stale."""
    from otc_assets.domain.gaps import NEVER_REQUESTED
    from otc_assets.local import setup
    from otc_assets.reports import weeks as reports

    chosen, now = settings(), dt.datetime.now(NEW_YORK)
    with setup.warehouse(chosen) as database:
        rows = reports.week_status(database, newest, chosen.first_week, now)
    if as_json:
        out.print_as_json(rows)
        return
    if not rows:
        print_first_publications(chosen.first_week, now)
        return
    columns = ["week_ending", *(tier.id for tier in TIERS), "rows", "grade", "shares", "state"]
    short = {NEVER_REQUESTED: "-", GapStatus.MISSING_INSIDE: "missing", GapStatus.MISSING_AT_END: "missing"}
    shown = [[short.get(row[c], row[c]) for c in columns] for row in rows]
    out.print_table(columns, shown, right=["rows", "shares"], notes=True)
    if any("-" in row for row in shown):
        out.print("\n-  never requested; 'otc-assets materialize' or 'backfill' loads these weeks")


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

    Periods of other data sets are listed by week under the data set's name, from the first captured period on.

    Weeks before a tier's first captured week were never requested. They are listed by tier and are not gaps:
    --check does not count them.
    """
    from otc_assets.domain.datasets import BY_NAME
    from otc_assets.domain.gaps import NEVER_REQUESTED
    from otc_assets.finra.sources import open_source
    from otc_assets.local import setup
    from otc_assets.reports import weeks as reports

    chosen = settings()
    with setup.warehouse(chosen) as database:
        source, now = open_source(chosen), dt.datetime.now(NEW_YORK)
        found = reports.gap_ranges(database, source, chosen.first_week, now, with_pending=pending)
        found += reports.dataset_gap_ranges(database, source, now, with_pending=pending)
    history = [r for r in found if r["status"] == NEVER_REQUESTED]
    since = [r for r in found if r["status"] != NEVER_REQUESTED]
    missing = [r for r in since if r["status"] != GapStatus.PENDING]
    if as_json:
        out.print_as_json(found)
    else:
        if since:
            columns = ["first_week", "last_week", "weeks", "tier", "status", "fetchable", "detail"]
            shown = [
                [
                    *(r[c] for c in columns[:-2]),
                    "yes" if r["fetchable"] else "no",
                    f"the first week: {r['detail']}" if r["weeks"] > 1 else r["detail"],
                ]
                for r in since
            ]
            out.print_table(columns, shown, right=["weeks"], notes=True)
        else:
            out.print(f"no gaps since {'the first captured week' if history else chosen.first_week}")
        _print_backfill("To fetch missing weeks", [r for r in missing if r["tier"] not in BY_NAME])
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


def storage(as_json: Json = False) -> None:
    """Show the storage of each table: size on disk, chunks, compression, and the oldest week that is kept."""
    from otc_assets.local import setup
    from otc_assets.reports import weeks as reports

    with setup.warehouse(settings()) as database:
        rows = reports.storage_by_table(database)
    if as_json:
        out.print_as_json(rows)
        return
    headings = {"table": "table", "size_mb": "MB", **{c: c for c in ("chunks", "compressed", "ratio", "kept_from")}}
    shown = [[row[column] for column in headings] for row in rows]
    out.print_table(list(headings.values()), shown, right=["MB", "chunks", "compressed", "ratio"])


alerts_app = typer.Typer(help="Show recent alerts and their delivery; send a test message.")


@alerts_app.callback(invoke_without_command=True)
def alerts(
    context: typer.Context,
    newest: Annotated[int, typer.Option(min=1, max=MOST_ROWS, help="Number of most recent alerts.")] = 20,
    as_json: Json = False,
) -> None:
    """Show recent alerts and their delivery, newest first. 'alerts test' sends a test message to OTC_ALERT_URL."""
    if context.invoked_subcommand is not None:
        return
    from otc_assets.local import setup
    from otc_assets.reports import events as reports

    with setup.warehouse(settings()) as database:
        found = reports.recent_alerts(database, newest)
    if as_json:
        out.print_as_json(found)
    elif not found:
        out.print("no alerts yet")
    else:
        minute = "%Y-%m-%d %H:%M"
        shown = [
            [
                row["happened_at"].strftime(minute),
                row["severity"],
                row["resolved_at"].strftime(minute) if row["resolved_at"] else "",
                row["delivery"],
                row["title"],
            ]
            for row in found
        ]
        out.print_table(["happened", "severity", "resolved", "delivery", "alert"], shown, notes=True)


@alerts_app.command("test")
def alerts_test() -> None:
    """Send a test message to every destination in OTC_ALERT_URL, and print whether it arrived."""
    from otc_assets.alerting.delivery import send_test

    failed = []
    for name, error in send_test(settings()):
        if error is None:
            out.print(f"arrived {name}")
        else:
            failed.append(error)
    exit_on_failures(failed)
