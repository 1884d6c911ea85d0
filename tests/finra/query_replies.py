"""Replies of the Query API that are written by hand, and a client that gets them."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from otc_assets.finra.queries import FIELDS
from otc_assets.finra.query_api import QueryApi

HEADER_LINE = "|".join(FIELDS)


def page(*rows: str, total: int | None = None, **headers: str) -> httpx.Response:
    text = "\n".join([HEADER_LINE, *rows, ""])
    return httpx.Response(
        200, text=text, headers={"Record-Total": str(len(rows) if total is None else total), **headers}
    )


A_ROW = "2026-08-17||T1|NMS Tier 1|ABC|Abc|PPEX||POOL|5|1|||ATS_W_SMBL_FIRM|2026-09-08|2026-09-08|"


def answering(handler: Callable[[httpx.Request], httpx.Response], **more: object) -> QueryApi:
    transport = httpx.MockTransport(handler)
    return QueryApi("http://api", transport=transport, requests_per_minute=60_000, **more)  # type: ignore[arg-type]
