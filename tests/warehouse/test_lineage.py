"""Versions and staleness: what a changed capture or a changed rule makes stale."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import replace

import pytest
import sqlalchemy as sa
from warehouse_rows import publication

from otc_assets.domain import normalize
from otc_assets.domain.firms import ROLES_VERSION
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.schema import REJECTED
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES, figures, in_order, rolling_figures, weekly_figures
from otc_assets.domain.weeks import weeks_up_to
from otc_assets.warehouse import load
from otc_assets.warehouse.lineage import Lineage, lineage
from otc_assets.warehouse.recount import mark_stale
from otc_assets.warehouse.server import transaction

WEEKS = weeks_up_to(dt.date(2026, 8, 21), 3)


def now(engine: sa.Engine) -> Lineage:
    with transaction(engine) as connection:
        return lineage(connection)


def stale(engine: sa.Engine) -> dict[str, list[dt.date]]:
    """By table, its stale weeks; tables without any are left out."""
    found = now(engine)
    return {table: weeks for table in in_order() if (weeks := found.stale(table))}


def recompute(engine: sa.Engine, *tables: str) -> None:
    """Records the stale weeks of each table as computed, one table after another."""
    for table in tables:
        found = now(engine)
        with transaction(engine) as connection:
            for week in found.stale(table):
                version = found.version(table, week)
                assert version is not None
                load.mark_computed(connection, table, week, version, 1)


def test_gaps_are_read_for_the_weekly_report_alone(engine: sa.Engine) -> None:
    """They were read again for each figure of each week."""
    statements: list[str] = []

    def note(*given: object) -> None:
        statements.append(str(given[2]))

    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        known = now(engine)
        assert not [each for each in statements if "otc.gap" in each]
        with pytest.raises(AssertionError, match="with_gaps"):
            replace(known, recorded={name: {WEEKS[-1]: "1"} for name in WEEKLY_REPORT.sources}).version(
                WEEKLY_REPORT.name, WEEKS[-1]
            )
        with transaction(engine) as connection:
            assert lineage(connection, with_gaps=True).gaps == {}
        assert known.gaps is None
        assert len([each for each in statements if "otc.gap" in each]) == 1
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def computed(engine: sa.Engine) -> sa.Engine:
    """A database with three weeks of captures, every table computed from them."""
    with transaction(engine) as connection:
        for week in WEEKS:
            load.record_publication(connection, publication(week_ending=week), REJECTED.to_frame())
    recompute(engine, *in_order())
    assert stale(engine) == {}
    return engine


def raise_code_version(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    figure = TABLES[name]
    assert isinstance(figure, Figure)
    monkeypatch.setitem(TABLES, name, replace(figure, code_version=f"{figure.code_version}+"))


def test_a_changed_rule_of_a_figure_makes_exactly_its_weeks_stale(
    computed: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_code_version(monkeypatch, "venue_rolling")
    assert stale(computed) == {"venue_rolling": WEEKS}
    recompute(computed, "venue_rolling")
    assert stale(computed) == {}


def test_downstream_figures_become_stale_once_a_changed_rule_has_recomputed_their_source(
    computed: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_code_version(monkeypatch, "symbol_summary")
    assert stale(computed) == {"symbol_summary": WEEKS}
    recompute(computed, "symbol_summary")
    assert stale(computed) == dict.fromkeys(("symbol", "symbol_rolling", "week_changes"), WEEKS)
    recompute(computed, *in_order())
    assert stale(computed) == {}


def test_a_changed_normalizer_makes_venue_volume_stale_and_then_every_figure(
    computed: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normalize, "NORMALIZER_VERSION", "2")
    assert stale(computed) == {"venue_volume": WEEKS}
    recompute(computed, "venue_volume")
    of_volume = {figure.name for figure in figures() if figure.sources == ("venue_volume",)}
    assert set(stale(computed)) == of_volume
    recompute(computed, *weekly_figures())
    assert set(stale(computed)) == set(rolling_figures())
    recompute(computed, *rolling_figures())
    assert stale(computed) == {}


def test_weeks_computed_before_code_versions_were_recorded_are_current(
    computed: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise an upgrade would recompute years of weeks: the first version of a rule is not named."""
    figure = TABLES["symbol_summary"]
    assert isinstance(figure, Figure)
    monkeypatch.setitem(TABLES, "symbol_summary", replace(figure, code_version="1"))
    recompute(computed, *in_order())
    with transaction(computed) as connection:
        versions = dict(
            connection.execute(
                sa.text("SELECT table_name, version FROM otc.computed_week WHERE week_ending = :week"),
                {"week": WEEKS[0]},
            ).all()
        )
    assert versions["venue_volume"] == "T1:1"
    assert versions["symbol_concentration"].startswith("T1:1 symbol_concentration@")
    digest = hashlib.sha256(f"{WEEKS[0]}={versions['symbol_summary']}".encode()).hexdigest()[:16]
    assert versions["symbol_rolling"] == f"{digest} symbol_rolling@3"


def test_versions_name_the_code_of_every_rule_that_was_changed(
    computed: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normalize, "NORMALIZER_VERSION", "3")
    raise_code_version(monkeypatch, "symbol_summary")
    recompute(computed, *in_order())
    found = now(computed)
    assert found.version("venue_volume", WEEKS[0]) == "T1:1 venue_volume@3"
    assert found.version("symbol_summary", WEEKS[0]) == "T1:1 venue_volume@3 symbol_summary@2+"
    assert found.version("venue_share", WEEKS[0]) == "T1:1 venue_volume@3 venue_share@2"
    monkeypatch.setitem(TABLES, "venue_share", replace(TABLES["venue_share"], code_version="1"))  # type: ignore[call-arg]
    assert found.version("venue_share", WEEKS[0]) == "T1:1 venue_volume@3"


def test_a_capture_of_rows_that_finra_rewrote_makes_the_report_stale_whose_period_has_the_day(
    computed: sa.Engine,
) -> None:
    """The week of 2026-08-21 is reported on 2026-09-08; an older week's revision of 2026-09-02 is in that report."""
    old = WEEKS[2] - dt.timedelta(weeks=20)
    day = {"initial_published_date": dt.date(2026, 4, 27), "last_update_date": dt.date(2026, 9, 2)}
    with transaction(computed) as connection:
        load.record_publication(connection, publication(week_ending=old, **day), REJECTED.to_frame())
    assert stale(computed) == {"venue_volume": [old]}  # its rows are not in the tables yet
    recompute(computed, "venue_volume")
    assert stale(computed)["week_changes"] == [WEEKS[2]]
    recompute(computed, *in_order())
    assert stale(computed) == {}


def test_a_rebuilt_week_makes_all_that_is_computed_from_it_stale_also_where_versions_stay(computed: sa.Engine) -> None:
    """The rule, or the calendar of trading days, has no version. Reports and estimates once stayed as they were."""
    last_calibrated = WEEKS[0] + dt.timedelta(weeks=10)
    with transaction(computed) as connection:
        for week in WEEKS:
            version = lineage(connection, with_gaps=True).version(WEEKLY_REPORT.name, week)
            assert version is not None
            load.mark_computed(connection, WEEKLY_REPORT.name, week, version, 1)
        for week in (WEEKS[0], last_calibrated, last_calibrated + dt.timedelta(weeks=1)):
            load.mark_computed(connection, "volume_estimate", week, "the same inputs", 1)
    with transaction(computed) as connection:
        mark_stale(connection, WEEKS[0])
    recompute(computed, *in_order())
    assert stale(computed) == {}
    with transaction(computed) as connection:
        assert lineage(connection, with_gaps=True).stale(WEEKLY_REPORT.name) == WEEKS
        recorded = lineage(connection).recorded["volume_estimate"]
    assert recorded == {
        WEEKS[0]: "rebuild",
        last_calibrated: "rebuild",
        last_calibrated + dt.timedelta(weeks=1): "the same inputs",
    }


def test_a_changed_list_of_roles_makes_the_shares_of_roles_stale_and_nothing_else(
    computed: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version of the list is the code version: another list gives other figures from the same rows."""
    figure = TABLES["role_share"]
    assert isinstance(figure, Figure)
    assert ROLES_VERSION in figure.code_version
    assert re.fullmatch("[0-9a-f]{12}", ROLES_VERSION)
    monkeypatch.setitem(TABLES, "role_share", replace(figure, code_version="1.of-another-list"))
    assert stale(computed) == {"role_share": WEEKS}
    recompute(computed, "role_share")
    assert stale(computed) == {}
