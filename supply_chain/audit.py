"""``make audit``: known vulnerabilities of the pinned packages, and their licences, against ``allowed.toml``.

Vulnerabilities are those of the advisory service OSV, by pip-audit. Where the service can't be reached, the step says
that advisories were not checked. It then fails in CI, where ``CI`` is set, and passes elsewhere.
``OTC_REQUIRE_ADVISORIES``, 1 or 0, decides otherwise.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from boolean.boolean import AND, OR, Expression
from license_expression import ExpressionError, get_spdx_licensing
from packaging.utils import canonicalize_name

from supply_chain.components import LOCKS, ROOT, described, pins

ALLOWED = ROOT / "supply_chain" / "allowed.toml"
SERVICE = "https://api.osv.dev/v1/query"
#: An advisory that the service has for certain: a service that does not know it does not check anything.
_CONTROL = {"package": {"name": "jinja2", "ecosystem": "PyPI"}, "version": "2.4.1"}
_SECONDS = 900

_SPDX = get_spdx_licensing()


class Allowed(NamedTuple):
    """The contents of ``allowed.toml``.

    Attributes:
        advisories: exceptions by the advisory's ID.
        licences: SPDX identifiers, and names of trove classifiers.
        packages: exceptions by the package's name.
    """

    advisories: dict[str, dict[str, Any]]
    licences: frozenset[str]
    packages: dict[str, dict[str, Any]]


def allowed(path: Path) -> Allowed:
    """Reads the exceptions.

    Raises:
        SystemExit: an exception has no reason or no date: the day on which a licence was read, or on which the
            exception for an advisory expires.
    """
    read = tomllib.loads(path.read_text())
    found = Allowed(read.get("advisories", {}), frozenset(read["licences"]["allowed"]), read.get("packages", {}))
    for kind, entries, needed in (
        ("advisories", found.advisories, {"package": str, "reason": str, "expires": dt.date}),
        ("packages", found.packages, {"licence": str, "reason": str, "reviewed": dt.date}),
    ):
        for name, entry in entries.items():
            for key, type_ in needed.items():
                if not isinstance(entry.get(key), type_) or not entry[key]:
                    raise SystemExit(f"audit: {path.name}: [{kind}.{name}] needs {key} ({type_.__name__})")
    return found


# --- advisories ----------------------------------------------------------------------------------------


def unreachable(service: str) -> str:
    """Why the advisory service can't be asked; empty if it can."""
    try:
        reply = httpx.post(service, json=_CONTROL, timeout=15)
        reply.raise_for_status()
        known = bool(reply.json().get("vulns"))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if known else "it does not know the advisories of jinja2 2.4.1"


def expired(entries: Allowed, today: dt.date) -> Iterator[str]:
    """The exceptions that no longer hold, as problems."""
    for name, entry in entries.advisories.items():
        if entry["expires"] < today:
            yield (
                f"{entry['package']}: the exception for {name} expired on {entry['expires']}. Upgrade the package, or "
                f"look at the advisory again and set another date in {ALLOWED.name}"
            )


def vulnerable(service: str, locks: list[Path], entries: Allowed) -> Iterator[str]:
    """The pins that have known vulnerabilities, as problems.

    Args:
        service: the URL of OSV's API, or of one like it.
        locks: the lock files.
        entries: the exceptions.
    """
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--progress-spinner=off", "--format=json"]
    command += ["--vulnerability-service=osv", f"--osv-url={service}", "--strict"]
    command += [f"--requirement={lock}" for lock in locks]
    command += [f"--ignore-vuln={name}" for name in entries.advisories]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)  # noqa: S603
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        yield f"pip-audit ended with exit code {done.returncode} and no result: {last}"
        return
    pinned = {name for lock in locks for name, _ in pins(lock)}
    for name in sorted(pinned - {canonicalize_name(one["name"]) for one in found}):
        yield f"{name}: pip-audit did not check it"
    for one in found:
        if "skip_reason" in one:
            yield f"{one['name']}: pip-audit did not check it: {one['skip_reason']}"
        for advisory in one.get("vulns", ()):
            fixed = ", ".join(advisory["fix_versions"]) or "no version"
            yield (
                f"{one['name']} {one['version']}: {advisory['id']} ({fixed} fixes it): "
                f"{advisory['description'][:200]}. Upgrade the pin, or add [advisories.{advisory['id']}] to "
                f"{ALLOWED.name}"
            )


# --- licences ------------------------------------------------------------------------------------------


def _is_allowed(expression: Expression, names: frozenset[str]) -> bool:
    if isinstance(expression, AND):
        return all(_is_allowed(one, names) for one in expression.args)
    if isinstance(expression, OR):
        return any(_is_allowed(one, names) for one in expression.args)
    return str(expression) in names


def _accepted(text: str, names: frozenset[str]) -> bool:
    """Whether a licence is allowed: a name as it is, or an SPDX expression of names."""
    if text in names:
        return True
    try:
        return _is_allowed(_SPDX.parse(text), names)
    except ExpressionError:
        return False


def _licences_of(component: dict[str, Any]) -> list[str]:
    found = component.get("licenses", [])
    return [one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in found]


def refused(components: list[dict[str, Any]], entries: Allowed) -> Iterator[str]:
    """The packages whose licence is not allowed, and exceptions that are not needed, as problems.

    A package with several licences that are not joined in an expression needs all of them.

    Args:
        components: as CycloneDX has them.
        entries: what is allowed.
    """
    needed = set()
    for component in components:
        name, licences = canonicalize_name(component["name"]), _licences_of(component)
        if licences and all(_accepted(one, entries.licences) for one in licences):
            continue
        needed.add(name)
        if name not in entries.packages:
            shown = " and ".join(map(repr, licences)) or "none that its metadata names"
            yield (
                f"{name} {component['version']}: its licence, {shown}, is not in the list of {ALLOWED.name}. Use "
                f"another package; or read the licence, and add it to the list or [packages.{name}] with a reason"
            )
    for unneeded in sorted(set(entries.packages) - needed):
        yield f"{unneeded}: [packages.{unneeded}] in {ALLOWED.name} is not needed. Remove it"


def _required() -> str | None:
    """Why advisories that can't be checked fail the step; None if they don't."""
    chosen = os.environ.get("OTC_REQUIRE_ADVISORIES")
    if chosen:
        return "OTC_REQUIRE_ADVISORIES is set" if chosen != "0" else None
    return "This is CI" if os.environ.get("CI", "").lower() not in ("", "0", "false") else None


def main() -> int:
    """Runs all checks and prints each problem. Returns the exit code."""
    entries = allowed(ALLOWED)
    components = described()["components"]
    problems = [*expired(entries, dt.datetime.now(dt.UTC).date()), *refused(components, entries)]
    print(f"licences: {len(components)} packages checked against {ALLOWED.name}")
    service = os.environ.get("OTC_ADVISORIES_URL") or SERVICE
    if reason := unreachable(service):
        print(f"advisories: NOT CHECKED. {service} can't be asked: {reason}")
        if why := _required():
            problems.append(
                f"{why}, and advisories were not checked. Let {service} be reached; name another server with OSV's API "
                "in OTC_ADVISORIES_URL; or set OTC_REQUIRE_ADVISORIES=0 to pass without"
            )
    else:
        problems += vulnerable(service, [ROOT / lock for lock in LOCKS], entries)
        print(f"advisories: the pins of {', '.join(LOCKS)} were checked with {service}")
    for problem in problems:
        print(f"audit: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
