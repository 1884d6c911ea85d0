"""Makes the chart's files that derive from others: copies, the README, values for the official chart, the schema.

A chart can read only files in its own folder. Run ``python helm/generate.py`` after a change of the Dagster
configuration, the settings, the alerting rules, the dashboards, ``values.yaml`` or a file ``*.in``; a test compares
the files.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from otc_assets.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "otc-assets"

#: Settings that the chart gives each pod, because they follow from other values; and those of the HTTP API, which it
#: does not run.
_OF_PODS = (
    *("home", "port", "metrics_port", "public_url", "allowed_hosts", "archive_url"),
    *("finra_client_id", "secrets_dir"),
    *("api_port", "api_keys", "api_requests_per_minute", "api_origins"),
)

#: Settings of earlier versions: values that still have them stay valid, and nothing reads them.
_REMOVED = ("OTC_KEEP_RAW_RECORD_WEEKS",)

#: The README's place for the table of values.
_MARK = "<!-- values -->"

_COMMENT = re.compile(r"^(?P<indent> *)# (?P<new>-- )?(?P<text>.*)$")
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.-]+):(?P<rest>.*)$")


def generated() -> dict[Path, str]:
    """The content of every generated file."""
    dashboards = ROOT / "otc_assets" / "dashboards"
    return {
        CHART / "files" / "dagster.yaml": (ROOT / "dagster.yaml").read_text(),
        CHART / "files" / "rules.yaml": (ROOT / "otc_assets" / "prometheus" / "rules.yaml").read_text(),
        **{CHART / "files" / "dashboards" / p.name: p.read_text() for p in sorted(dashboards.glob("*.json"))},
        CHART / "files" / "finra.json": finra(),
        CHART / "README.md": readme(),
        CHART / "values-official-dagster.yaml": official_values(),
        CHART / "values.schema.json": schema(),
    }


def finra() -> str:
    """The request rate of a process, unless the setting changes it, and the limit of all: that of FINRA."""
    rate = Settings.model_json_schema()["properties"]["requests_per_minute"]
    return json.dumps({"requestsPerMinute": rate["default"], "limit": rate["maximum"]}, indent=2) + "\n"


def schema() -> str:
    """``values.schema.json``, in which ``settings`` has those of the package, with their bounds.

    The rest of the file is written by hand.
    """
    described = Settings.model_json_schema()
    accepted = {}
    for name, field in described["properties"].items():
        kinds = [
            described["$defs"][kind["$ref"].rpartition("/")[2]] if "$ref" in kind else kind
            for kind in field.get("anyOf", [field])
        ]
        kind = next(kind for kind in kinds if kind.get("type") != "null")
        if not kind.get("writeOnly") and name not in _OF_PODS:
            accepted[f"OTC_{name.upper()}"] = _of_variable(kind)
    content = json.loads((CHART / "values.schema.json").read_text())
    accepted |= {name: {"deprecated": True} for name in _REMOVED}
    given = content["properties"]["settings"]["properties"]
    of_others = {name: rule for name, rule in given.items() if not name.startswith("OTC_")}
    content["properties"]["settings"]["properties"] = accepted | of_others
    return json.dumps(content, indent=2) + "\n"


def _of_variable(kind: dict[str, Any]) -> dict[str, Any]:
    """The rule of a variable, which YAML may have as text or as a number."""
    if "enum" in kind:
        return {"enum": kind["enum"]}
    bounds = {name: kind[name] for name in ("minimum", "exclusiveMinimum", "maximum") if name in kind}
    return {"type": ["string", kind["type"]] if kind["type"] != "string" else "string", **bounds}


def official_values() -> str:
    """``values-official-dagster.yaml.in`` with the project's ``dagster.yaml``.

    The official chart writes storage, compute logs and telemetry itself.
    """
    config = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    shared = {name: section for name, section in config.items() if name not in ("storage", "compute_logs", "telemetry")}
    sections = textwrap.indent(yaml.safe_dump(shared, sort_keys=False), "  ").rstrip()
    return (CHART / "values-official-dagster.yaml.in").read_text().replace("  # dagster.yaml", sections)


def readme() -> str:
    """``README.md.in`` with the table of values."""
    text = (CHART / "values.yaml").read_text()
    rows = [f"| `{path}` | {comment} | {_shown(value)} |" for path, comment, value in described(text)]
    table = "\n".join(["| value | meaning | default |", "| --- | --- | --- |", *rows])
    return (CHART / "README.md.in").read_text().replace(_MARK, table)


def described(text: str) -> Iterator[tuple[str, str, Any]]:
    """Path, comment and default of every value that has a ``# --`` comment, in the order of the file."""
    values = yaml.safe_load(text)
    path: list[str] = []
    comment = ""
    for line in text.splitlines():
        if found := _COMMENT.match(line):
            if found["new"]:
                comment = found["text"]
            elif comment:
                comment += f" {found['text']}"
        elif found := _KEY.match(line):
            path = [*path[: len(found["indent"]) // 2], found["key"]]
            if comment:
                value = values
                for key in path:
                    value = value[key]
                yield ".".join(path), comment, value
            comment = ""
        else:
            comment = ""


def _shown(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", r"\|")


if __name__ == "__main__":
    for file, content in generated().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
