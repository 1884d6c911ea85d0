"""Command-line interface: parsing, dispatch, output. The work is done in ``defs``, ``reports`` and ``local``.

``app`` assembles the commands and handles errors; each group of commands has a module; ``options`` has what they
share on the command line, and ``output`` and ``terminal`` what they print with. Commands import what they need when
they run: Dagster takes a second to import, and ``--help`` does not wait for it.
"""

from __future__ import annotations

import sys

import otc_assets.memory  # noqa: F401 - before what imports Polars
from otc_assets.cli import programs
from otc_assets.cli.output import err, out

__all__ = ["err", "main", "out"]


def main() -> None:
    """The console script. Dagster's programs start without the rest of the commands, which saves each run time."""
    programs.replace_process(sys.argv[1:])
    from otc_assets.cli.app import main as run

    run()
