"""`make audit`: a vulnerable pin, a licence that is not allowed and an exception that expired each fail the step."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from otc_assets.settings import PROJECT_ROOT
from supply_chain.audit import ALLOWED, Allowed, allowed, expired, refused, unreachable, vulnerable
from supply_chain.components import LOCKS, described, pins

Service = Callable[..., str]

NONE = Allowed({}, frozenset(), {})
#: Nothing answers there.
CLOSED = "http://127.0.0.1:9/v1/query"
HASH = "0" * 64


@pytest.fixture
def service(httpserver: HTTPServer) -> Service:
    """An advisory service as OSV's, which knows the control and the vulnerable packages that a test names."""

    def serve(*vulnerable: str, asked: list[str] | None = None) -> str:
        def answer(request: Request) -> Response:
            query = request.get_json(force=True)  # pip-audit names no type of its content
            pin = f"{query['package']['name']}=={query['version']}"
            assert query["package"]["ecosystem"] == "PyPI"
            if asked is not None:
                asked.append(pin)
            known = ("jinja2==2.4.1", *vulnerable)
            return Response(json.dumps({"vulns": [_advisory(query["package"]["name"])]} if pin in known else {}))

        httpserver.expect_request("/v1/query", method="POST").respond_with_handler(answer)
        return httpserver.url_for("/v1/query")

    return serve


def _advisory(name: str) -> dict[str, Any]:
    events = [{"introduced": "0"}, {"fixed": "99.1"}]
    affected = {"package": {"name": name, "ecosystem": "PyPI"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]}
    return {"id": f"GHSA-of-{name}", "summary": f"{name} runs what it reads", "affected": [affected]}


def lock_of(folder: Path, *pinned: str) -> Path:
    path = folder / "some.lock"
    path.write_text("".join(f"{pin} \\\n    --hash=sha256:{HASH}\n" for pin in pinned))
    return path


def audit(**environment: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("OTC_")}
    command = [sys.executable, "-m", "supply_chain.audit"]
    return subprocess.run(
        command, cwd=PROJECT_ROOT, env=given | environment, capture_output=True, text=True, check=False
    )


# --- advisories ----------------------------------------------------------------------------------------


def test_a_pin_with_a_known_vulnerability_is_named_with_what_fixes_it(service: Service, tmp_path: Path) -> None:
    url = service("alpha==1.0")
    lock = lock_of(tmp_path, "alpha==1.0", "beta==2.0", "of-windows==1.0 ; sys_platform == 'win32'")
    (problem,) = vulnerable(url, [lock], NONE)
    assert problem.startswith("alpha 1.0: GHSA-of-alpha (99.1 fixes it): alpha runs what it reads.")
    assert "[advisories.GHSA-of-alpha] to allowed.toml" in problem
    assert list(vulnerable(url, [lock_of(tmp_path, "alpha==1.1", "beta==2.0")], NONE)) == []


def test_an_exception_accepts_one_advisory_until_its_date(service: Service, tmp_path: Path) -> None:
    entry = {"package": "alpha", "reason": "never called", "expires": dt.date(2026, 12, 31)}
    entries = NONE._replace(advisories={"GHSA-of-alpha": entry})
    url, lock = service("alpha==1.0", "beta==2.0"), lock_of(tmp_path, "alpha==1.0", "beta==2.0")
    assert [problem.partition(":")[0] for problem in vulnerable(url, [lock], entries)] == ["beta 2.0"]
    assert list(expired(entries, dt.date(2026, 12, 31))) == []
    (problem,) = expired(entries, dt.date(2027, 1, 1))
    assert problem.startswith("alpha: the exception for GHSA-of-alpha expired on 2026-12-31")


def test_a_lock_file_that_cannot_be_checked_is_no_success(service: Service, tmp_path: Path) -> None:
    lock = tmp_path / "broken.lock"
    lock.write_text("alpha>=1.0\n")
    (problem,) = vulnerable(service(), [lock], NONE)
    assert "no result" in problem
    (problem,) = vulnerable(CLOSED, [lock_of(tmp_path, "alpha==1.0")], NONE)
    assert "no result" in problem


@pytest.mark.slow
def test_the_step_asks_for_every_pin_of_every_lock_file_and_passes_without_advisories(service: Service) -> None:
    asked: list[str] = []
    done = audit(OTC_ADVISORIES_URL=service(asked=asked), OTC_REQUIRE_ADVISORIES="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "NOT CHECKED" not in done.stdout
    pinned = {f"{name}=={version}" for lock in LOCKS for name, version in pins(PROJECT_ROOT / lock)}
    assert len(pinned) > 200
    assert pinned <= set(asked)


@pytest.mark.slow
def test_a_vulnerable_pin_of_ours_fails_the_step(service: Service) -> None:
    version = dict(pins(PROJECT_ROOT / "requirements-server.lock"))["httpx"]
    done = audit(OTC_ADVISORIES_URL=service(f"httpx=={version}"))
    assert done.returncode == 1
    assert f"audit: httpx {version}: GHSA-of-httpx" in done.stderr


@pytest.mark.slow
def test_without_the_service_the_step_says_so_and_fails_in_ci_or_where_it_is_required() -> None:
    cases = (("", "", 0), ("", "false", 0), ("", "true", 1), ("0", "true", 0), ("1", "", 1))
    for required, ci, code in cases:
        done = audit(OTC_ADVISORIES_URL=CLOSED, OTC_REQUIRE_ADVISORIES=required, CI=ci)
        assert (done.returncode, "advisories: NOT CHECKED" in done.stdout) == (code, True)
        assert ("advisories were not checked" in done.stderr) == bool(code)


def test_a_service_that_answers_anything_is_not_taken_for_one_that_checks(httpserver: HTTPServer) -> None:
    """An index without advisories, or a proxy's page, would let every pin pass."""
    for body, status in (("{}", 200), ("[]", 200), ("<html>", 200), ("{}", 404)):
        httpserver.clear()
        httpserver.expect_request("/v1/query").respond_with_data(body, status)
        assert unreachable(httpserver.url_for("/v1/query"))
    assert unreachable("not a URL")


# --- licences ------------------------------------------------------------------------------------------


def component(name: str, *licences: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "licenses": list(licences)}


def of_id(name: str) -> dict[str, Any]:
    return {"license": {"id": name}}


def of_name(name: str) -> dict[str, Any]:
    return {"license": {"name": name}}


@pytest.mark.parametrize(
    ("licences", "accepted"),
    [
        ([of_id("MIT")], True),
        ([of_id("AGPL-3.0-only")], False),
        ([], False),
        ([of_name("All rights reserved")], False),
        ([of_name("License :: OSI Approved :: BSD License")], True),
        ([of_id("MIT"), of_id("AGPL-3.0-only")], False),
        ([{"expression": "MIT OR AGPL-3.0-only"}], True),
        ([{"expression": "MIT AND AGPL-3.0-only"}], False),
        ([{"expression": "MIT AND (AGPL-3.0-only OR ISC)"}], True),
        ([{"expression": "MIT WITH nothing known"}], False),
    ],
)
def test_a_licence_is_accepted_only_if_every_part_is_in_the_list(
    licences: list[dict[str, Any]], accepted: bool
) -> None:
    entries = NONE._replace(licences=frozenset({"MIT", "ISC", "License :: OSI Approved :: BSD License"}))
    problems = list(refused([component("Some.Package", *licences)], entries))
    assert problems == [] if accepted else problems[0].startswith("some-package 1.0: its licence, ")
    if not accepted:
        assert "[packages.some-package]" in problems[0]


def test_an_exception_for_a_package_is_accepted_and_one_that_is_not_needed_is_not() -> None:
    entries = NONE._replace(packages={"alpha": {"licence": "X", "reason": "y"}}, licences=frozenset({"MIT"}))
    assert list(refused([component("Alpha")], entries)) == []
    (problem,) = refused([component("alpha", of_id("MIT"))], entries)
    assert problem == "alpha: [packages.alpha] in allowed.toml is not needed. Remove it"


def test_every_package_that_is_installed_here_has_an_accepted_licence() -> None:
    components = described()["components"]
    assert len(components) > 200
    assert list(refused(components, allowed(ALLOWED))) == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('[advisories.A]\npackage = "x"\nreason = "y"', "expires (date)"),
        ('[advisories.A]\npackage = "x"\nreason = ""\nexpires = 2030-01-01', "reason (str)"),
        ('[packages.x]\nlicence = "MIT"', "reason (str)"),
        ('[packages.x]\nlicence = "MIT"\nreason = "y"', "reviewed (date)"),
    ],
)
def test_an_exception_needs_a_reason_and_a_date(tmp_path: Path, text: str, missing: str) -> None:
    path = tmp_path / "allowed.toml"
    path.write_text(f"[licences]\nallowed = []\n{text}\n")
    with pytest.raises(SystemExit, match="needs") as caught:
        allowed(path)
    assert missing in str(caught.value)
