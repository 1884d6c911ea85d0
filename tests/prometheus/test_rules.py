"""Prometheus's rules, evaluated by promtool; and the publication calendar of a year, from the domain, run through them.

The cases themselves are in the files ``*_test.yaml`` beside this one.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.tools import missing

from otc_assets.domain.weeks import NEW_YORK, T1, T2, Tier, newest_due

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
RULES = HERE.parent.parent / "otc_assets" / "prometheus" / "rules.yaml"

Promtool = Callable[..., None]


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Runs promtool; what it says is the message of the failure."""
    found = shutil.which("promtool")
    if found is None:
        missing("promtool is not installed", "install Prometheus (Debian: apt-get install prometheus)")

    def run(*arguments: str | Path) -> None:
        done = subprocess.run([found, *map(str, arguments)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_prometheus_reads_the_rules_and_the_example(promtool: Promtool) -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", RULES.parent / "prometheus.yml")


@pytest.mark.parametrize("cases", sorted(path.name for path in HERE.glob("*_test.yaml")))
def test_each_alert_fires_when_it_should_and_not_when_it_should_not(promtool: Promtool, cases: str) -> None:
    promtool("test", "rules", HERE / cases)


def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    fires: dict[str, set[bool]] = {}
    for path in HERE.glob("*_test.yaml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for expected in case["alert_rule_test"]:
                fires.setdefault(expected["alertname"], set()).add(bool(expected["exp_alerts"]))
    assert fires == {alert["alert"]: {True, False} for alert in alerts()}


def test_every_alert_says_how_serious_it_is_what_is_wrong_in_figures_and_what_to_do() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        # A figure, or the name of what is down.
        assert re.search(r"\{\{", alert["annotations"]["description"]) or alert["alert"] == "OtcNoDaemon"


def test_rules_ask_only_for_what_the_exporter_serves() -> None:
    """A rule on a metric that does not exist never fires, and no error is shown."""
    exporter = RULES.parent.parent / "exporter"
    served = {name for path in exporter.glob("*.py") for name in re.findall(r'"(otc_\w+)"', path.read_text())}
    asked = set()
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            texts = [rule["expr"], *rule.get("annotations", {}).get("description", "").split("query")[:1]]
            asked |= {name for text in texts for name in re.findall(r"\botc_[a-z_]+", text)}
    assert asked
    assert {name.removesuffix("_total") for name in asked} <= served


def test_every_rule_has_its_place_in_the_runbook() -> None:
    documented = (HERE.parent.parent / "docs" / "alerts.md").read_text()
    assert {alert["alert"] for alert in alerts()} == set(re.findall(r"`(Otc\w+)`", documented))


# --- a year of publications, holidays included ---------------------------------------------------------

BEGIN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
STEP = dt.timedelta(minutes=30)
#: Martin Luther King Day: T1 of this week came on the Tuesday.
SHIFTED = dt.date(2026, 1, 2)


def _series(metric: str, tier: Tier, weeks: list[dt.date]) -> dict[str, str]:
    """A series of promtool's, a value every half hour; runs of equal values are folded."""
    seconds = [int(dt.datetime.combine(week, dt.time(), dt.UTC).timestamp()) for week in weeks]
    runs = [(value, len(list(run))) for value, run in itertools.groupby(seconds)]
    return {
        "series": f'{metric}{{job="otc-assets",instance="m:9464",tier="{tier.name}"}}',
        "values": " ".join(f"{value}x{count - 1}" for value, count in runs),
    }


def _served(tier: Tier, days: int, captured_by: Callable[[dt.datetime], dt.datetime]) -> list[dict[str, str]]:
    """What the exporter serves from BEGIN on, where at each moment all is captured that was due at ``captured_by``."""
    moments = [BEGIN + STEP * number for number in range(days * 48)]
    return [
        _series("otc_newest_week_expected_timestamp_seconds", tier, [newest_due(tier, m) for m in moments]),
        _series("otc_newest_week_timestamp_seconds", tier, [newest_due(tier, captured_by(m)) for m in moments]),
    ]


def _last_wednesday_run(moment: dt.datetime) -> dt.datetime:
    """The Wednesday before ``moment``, 06:00 in New York, at which the last run began that has ended by then."""
    local = moment.astimezone(NEW_YORK) - dt.timedelta(minutes=20)
    day = local.date() - dt.timedelta(days=(local.weekday() - 2) % 7)
    run = dt.datetime.combine(day, dt.time(6), NEW_YORK)
    return run if run <= local else run - dt.timedelta(weeks=1)


def _cases(path: Path, series: list[dict[str, str]], days: int, firing: Callable[[dt.datetime], list[str]]) -> Path:
    """A file of promtool's that looks at OtcWeekLate every two hours."""
    expected = []
    for number in range(0, days * 48, 4):
        late = [
            {"exp_labels": {"severity": "warning", "job": "otc-assets", "instance": "m:9464", "tier": tier}}
            for tier in firing(BEGIN + STEP * number)
        ]
        expected.append({"eval_time": f"{number * 30}m", "alertname": "OtcWeekLate", "exp_alerts": late})
    # That rule alone, and without its words, which the other cases look at: a year has many evaluations.
    (rule,) = [{**alert, "annotations": {}} for alert in alerts() if alert["alert"] == "OtcWeekLate"]
    (path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "weeks", "rules": [rule]}]}))
    case = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "30m",
        "tests": [{"interval": "30m", "input_series": series, "alert_rule_test": expected}],
    }
    (path / "year_test.yaml").write_text(yaml.safe_dump(case))
    return path / "year_test.yaml"


def test_a_year_of_wednesday_runs_is_never_late_not_even_after_holidays(promtool: Promtool, tmp_path: Path) -> None:
    """A fixed weekday for the due week would cry late in every week with a holiday on its publication day."""
    assert newest_due(T1, dt.datetime(2026, 1, 19, 12, tzinfo=NEW_YORK)) < SHIFTED
    series = [*_served(T1, 365, _last_wednesday_run), *_served(T2, 365, _last_wednesday_run)]
    promtool("test", "rules", _cases(tmp_path, series, 365, lambda _: []))


def test_a_wednesday_run_that_fails_is_late_by_noon_and_a_day_later_after_a_holiday(
    promtool: Promtool, tmp_path: Path
) -> None:
    """The runs of two Wednesdays fail: the one after the holiday, and an ordinary one."""
    failed = {dt.date(2026, 1, 21), dt.date(2026, 2, 11)}

    def captured_by(moment: dt.datetime) -> dt.datetime:
        run = _last_wednesday_run(moment)
        return run - dt.timedelta(weeks=1) if run.date() in failed else run

    spans = [
        # Due on the Tuesday at 06:00, alerted 54 hours later, at noon of the Thursday; captured on the next Wednesday.
        (dt.datetime(2026, 1, 22, 12, tzinfo=NEW_YORK), dt.datetime(2026, 1, 28, 6, 20, tzinfo=NEW_YORK)),
        (dt.datetime(2026, 2, 11, 12, tzinfo=NEW_YORK), dt.datetime(2026, 2, 18, 6, 20, tzinfo=NEW_YORK)),
    ]

    def firing(moment: dt.datetime) -> list[str]:
        return [T1.name] if any(begin <= moment < end for begin, end in spans) else []

    promtool("test", "rules", _cases(tmp_path, _served(T1, 60, captured_by), 60, firing))
