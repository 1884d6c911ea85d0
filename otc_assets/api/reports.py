"""The pages of weekly reports: the newest, and those of a week, as HTML and PDF.

What is on a page, and where it is kept, is in ``otc_assets.report``.
"""

from __future__ import annotations

import datetime as dt

from fastapi import FastAPI, Request
from starlette.responses import RedirectResponse, Response

from otc_assets import report
from otc_assets.api.problems import Problem
from otc_assets.api.responses import etag_of, is_known, not_modified
from otc_assets.archive.store import Archive

#: A page is complete in itself: whatever else it would load is refused.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'"


def install(app: FastAPI, archive: Archive) -> None:
    """Adds ``/reports``, ``/reports/{week}`` and ``/reports/{week}.pdf``."""

    def newest(request: Request) -> Response:  # noqa: ARG001 - FastAPI passes it by name
        week = report.newest_week(archive)
        if week is None:
            raise Problem(
                "not-found", "no report is made yet", remedy="The asset weekly_report makes one for each week."
            )
        return RedirectResponse(f"/reports/{week}", status_code=307)

    def page(week: dt.date, request: Request) -> Response:
        return _respond(
            request, _of(archive, week, "html"), "text/html; charset=utf-8", {"Content-Security-Policy": _POLICY}
        )

    def pdf(week: dt.date, request: Request) -> Response:
        name = {"Content-Disposition": f'inline; filename="otc-{week}.pdf"'}
        return _respond(request, _of(archive, week, "pdf"), "application/pdf", name)

    for path, endpoint in (("/reports", newest), ("/reports/{week}.pdf", pdf), ("/reports/{week}", page)):
        app.add_api_route(path, endpoint, methods=["GET"], response_model=None, include_in_schema=False)


def _of(archive: Archive, week: dt.date, kind: str) -> bytes:
    found = report.read(archive, week, kind)
    if found is None:
        raise Problem(
            "not-found",
            f"there is no report of the week ending {week}",
            remedy="Weeks are named by their Friday; /reports leads to the newest.",
        )
    return found


def _respond(request: Request, content: bytes, kind: str, headers: dict[str, str]) -> Response:
    etag = etag_of(content)
    if is_known(request, etag):
        return not_modified(etag)
    return Response(content, media_type=kind, headers={"ETag": etag, "Cache-Control": "no-cache", **headers})
