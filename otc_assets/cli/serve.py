"""Commands for programs that read: ``serve`` and ``mcp``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from otc_assets import interruption
from otc_assets.cli.output import err, out
from otc_assets.errors import OtcError
from otc_assets.settings import settings


def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on. Other than loopback, it needs keys: OTC_API_KEYS.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="The port to listen on. [OTC_API_PORT]")] = None,
    new_key: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make an API key, print it and its line for the file, and end.")
    ] = None,
) -> None:
    """Serve the HTTP API until Ctrl-C: everything that can be read, as JSON, CSV, Arrow or Parquet.

    The database is only read. docs/api.md describes paths, keys and limits.

    Example: curl 'http://127.0.0.1:8000/v1/symbols/AAPL/summary?weeks=newest'
    """
    if new_key is not None:
        from otc_assets.api.access import new_key as make_key

        key, line = make_key(new_key)
        err.print("The key is shown once. Add the second line to the file that OTC_API_KEYS names.")
        out.print(key)
        out.print(line)
        return
    from otc_assets.api.serving import serve as serve_api

    chosen = settings()
    listen = chosen.api_port if port is None else port
    try:
        serve_api(chosen, host, listen, lambda where: err.print(f"API       {where}/v1/tables   Ctrl-C stops it"))
    except OSError as error:
        if isinstance(error, OtcError):
            raise
        raise OtcError(
            f"can't listen on {host}, port {listen}: {error.strerror}",
            remedy="Choose another with --host or --port (OTC_API_PORT).",
        ) from None


def mcp() -> None:
    """Serve the data to an AI assistant by the Model Context Protocol, on standard input and output.

    The assistant starts it: its configuration has the command otc-assets with the argument mcp. The database is only
    read, and must be running.
    """
    from otc_assets.api.tools import run

    try:
        run()
    except KeyboardInterrupt:
        # A thread of the SDK's waits for standard input, and a regular exit would wait for the thread.
        os._exit(interruption.exit_code())
