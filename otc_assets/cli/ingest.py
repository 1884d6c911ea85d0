"""Commands about files: ``ingest``, and ``simulate``, which writes simulated ones or serves the simulated API."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Annotated

import typer

from otc_assets.cli.installation import launcher
from otc_assets.cli.options import Json, OptionalWeeks, friday
from otc_assets.cli.output import err, exit_on_failures, out, progress
from otc_assets.domain.weeks import TIERS, stretches
from otc_assets.errors import OtcError
from otc_assets.finra.simulator import traps
from otc_assets.settings import settings
from otc_assets.text import printable_name


def ingest(
    files: Annotated[list[Path], typer.Argument(help="Download files of FINRA's website, or files of API records.")],
    week_ending: Annotated[
        dt.date | None,
        typer.Option(
            parser=friday, metavar="DATE", help="The week (its Friday), for files from which it can't be inferred."
        ),
    ] = None,
    summary_type: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="FINRA's summaryTypeCode, for totals in a file that has no such column."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ingest downloaded files, and compute their weeks.

    The week of a download file is inferred from its rows and its name. A file from which it can't be inferred is
    refused.
    """
    from otc_assets.defs.jobs import FilesToIngest
    from otc_assets.defs.launch import RunFailed
    from otc_assets.defs.materialize import compute_stale
    from otc_assets.pipeline.file_drop import encode_path
    from otc_assets.reports.captures import ingested

    if folders := [path for path in files if path.is_dir()]:
        raise OtcError(
            f"a folder, not a file: {', '.join(printable_name(str(path)) for path in folders)}",
            remedy="Give the files in it, such as folder/*.csv",
        )
    if absent := [path for path in files if not path.is_file()]:
        raise OtcError(f"no such file: {', '.join(printable_name(str(path)) for path in absent)}")
    wanted = FilesToIngest(
        paths=[encode_path(str(path.resolve())) for path in files],
        week_ending=week_ending.isoformat() if week_ending else None,
        summary_type=summary_type,
    )
    failed: list[str] = []
    with launcher(settings()) as opened:
        with progress("ingesting files") as tick:
            tick(0, ", ".join(printable_name(path.name) for path in files))
            try:
                run_id = opened.ingest(wanted, lambda note: tick(0, note))
            except RunFailed as error:
                failed.append(str(error))
                run_id = error.run_id
        with progress("computing weeks") as tick:
            weeks = opened.weeks_of_run(run_id)
            computed = compute_stale(opened, weeks, tick, others=True)
        failed += computed.failed
        captured = ingested(opened.database, files, run_id)
    for text in computed.others_failed:
        err.note("other weeks", "yellow", f"than those of these files could not be computed: {text}")
    if as_json:
        out.print_as_json(
            {
                "captured": captured,
                "weeks_computed": computed.weeks,
                "failed": failed,
                "other_weeks_failed": computed.others_failed,
            }
        )
    else:
        if captured:
            columns = ["origin", "weeks", "tier", "scope", "accepted", "rejected", "in_use", "status"]
            out.print_table(columns, [[row[c] for c in columns] for row in captured], right=columns[4:7])
        for row in captured:
            if row["detail"]:
                out.print(f"{row['origin']}: {row['status']}: {row['detail']}")
        if captured and not failed and all(row["already_ingested"] for row in captured):
            out.print("already ingested; no changes")
        if computed.weeks:
            parts = [f"{s[0]}..{s[-1]}" if len(s) > 1 else str(s[0]) for s in stretches(computed.weeks)]
            count = len(computed.weeks)
            out.print(f"computed {count} week{'' if count == 1 else 's'}: {', '.join(parts)}")
    exit_on_failures(failed)


def _scale(text: str) -> float:
    try:
        if 0 < (scale := float(text)) <= 4:
            return scale
    except ValueError:
        pass
    raise typer.BadParameter(f"{text!r} is not a number above 0 and up to 4.")


def simulate(
    folder: Annotated[Path | None, typer.Argument(help="The folder to write download files to.")] = None,
    weeks: OptionalWeeks = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the Query API on loopback instead.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to serve on; 0 chooses a free one.")] = 8080,
    scale: Annotated[
        float | None,
        typer.Option(parser=_scale, metavar="SIZE", help="Size of the data; 1 is FINRA's size. [OTC_SIMULATOR_SCALE]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the simulated data. [OTC_SIMULATOR_SEED]")] = None,
    trap: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A fault of the served API, from the list below; may be repeated."),
    ] = None,
) -> None:
    """Simulate FINRA: write download files, or serve the Query API, with faults on request.

    Examples:
    - otc-assets simulate files/ --weeks 2026-08-07..2026-08-28
    - otc-assets simulate --serve --scale 1, and elsewhere OTC_SOURCE=api OTC_FINRA_URL=http://127.0.0.1:8080
    - otc-assets simulate --serve --trap reset=3 --trap slow=5 --trap slow_seconds=120
    """
    from otc_assets.finra.simulator import files as rendering
    from otc_assets.finra.simulator.generator import Simulator
    from otc_assets.finra.simulator.server import make_app
    from otc_assets.finra.simulator.server import serve as serving
    from otc_assets.finra.sources import today_in_new_york

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
        raise OtcError(
            "a folder and weeks are required, or --serve", remedy="Write otc-assets simulate FOLDER --weeks A..B"
        )
    with progress("writing files") as tick:
        paths: list[Path] = []

        def written(path: Path) -> None:
            paths.append(path)
            tick(len(paths), path.name)

        rendering.write_files(simulator, folder, weeks.weeks, TIERS, today_in_new_york(), written)
    out.print(f"{len(paths)} files in {folder}")
