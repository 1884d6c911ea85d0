"""The assembly of the HTTP application."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Iterable

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from otc_assets.api import openapi, openbb, problems, reports
from otc_assets.api.access import Keys, Limiter
from otc_assets.api.edge import Edge
from otc_assets.api.observing import Measures
from otc_assets.api.routes import Routes
from otc_assets.archive.store import Archive
from otc_assets.client import Client

_DESCRIPTION = """Read-only. Rows are in pages: follow `next`, or the header `Link`, until there is none.

Formats: JSON, CSV, Arrow and Parquet, by `Accept` or `format`. Responses have an `ETag`; sent back in `If-None-Match`,
it gives 304 until a week of the rows is loaded again. `as_of` reads rows as they were known at a moment."""

_EXPOSED = ("ETag", "Link", "Retry-After", "RateLimit", "RateLimit-Policy")


def make_app(
    client: Client,
    *,
    probe: Client | None = None,
    archive: Archive | None = None,
    keys: Keys | None = None,
    requests_per_minute: int = 0,
    names: Iterable[str] | None = None,
    origins: Collection[str] = (),
) -> ASGIApp:
    """The application.

    Args:
        client: reads the database.
        probe: asks for /health whether the database responds, without waiting for other requests; None for ``client``.
        archive: where the pages of weekly reports are; None serves none.
        keys: the API keys that are admitted; None if none is needed.
        requests_per_minute: the rate limit of each key or address; 0 for none.
        names: the host names that requests may use; None for any.
        origins: the sites whose pages may read.
    """
    app = FastAPI(
        title="OTC transparency data",
        version=importlib.metadata.version("otc-assets"),
        summary="FINRA's weekly volume of each stock at each ATS and non-ATS firm, and figures computed from it.",
        description=_DESCRIPTION,
        docs_url=None,  # their pages load programs from other sites
        redoc_url=None,
    )
    measures = Measures()
    Routes(app, client, measures, probe or client).add()
    openbb.install(app)
    if archive is not None:
        reports.install(app, archive)
    problems.install(app)
    openapi.install(app, with_keys=keys is not None)
    limiter = Limiter(requests_per_minute)
    edge = Edge(app, keys=keys, limiter=limiter, names=names, measures=measures, turns=client.connections)
    if not origins:
        return edge
    # In front of the keys: browsers send none with the request that asks whether they may.
    return CORSMiddleware(
        edge,
        allow_origins=sorted(origins),
        allow_methods=["GET", "HEAD"],
        allow_headers=["Authorization", "X-API-Key", "If-None-Match"],
        expose_headers=_EXPOSED,
        max_age=3600,
    )
