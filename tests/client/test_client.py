"""The client, on the weeks that a first run loads.

What it has to read is computed by DuckDB from the simulator's rows, apart from the package.
"""

from __future__ import annotations

import datetime as dt
import doctest
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import polars as pl
import psycopg
import pytest
import time_machine
from hypothesis import given, settings
from hypothesis import strategies as st
from support.first_run import NOW, REVISED, WEEKS, FirstRun
from support.relay import relay

import otc_assets.client
from otc_assets import settings as settings_module
from otc_assets.client import (
    VERBS,
    Client,
    InvalidQuery,
    NoRows,
    NotFinal,
    QueryFailed,
    TimedOut,
    UnknownName,
    Unreachable,
    client,
    explain,
    reader,
    select,
    weeks,
)
from otc_assets.client.verbs import HAVE_ALL_TIERS
from otc_assets.domain.weeks import TIERS

TIER_NAMES = [tier.name for tier in TIERS]


@pytest.fixture(scope="module")
def otc(first_run: FirstRun) -> Iterator[Client]:
    """A client with a reader's login."""
    with Client(first_run.reader_url) as opened:
        yield opened


# --- what is read ----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(data=st.data())
def test_any_selection_has_the_rows_that_duckdb_selects(otc: Client, first_run: FirstRun, data: st.DataObject) -> None:
    symbols = [symbol for (symbol,) in first_run.duck.execute("SELECT DISTINCT symbol FROM rows ORDER BY 1").fetchall()]
    venues = [venue for (venue,) in first_run.duck.execute("SELECT DISTINCT id FROM rows ORDER BY 1").fetchall()]
    chosen = {
        "symbols": data.draw(st.none() | st.lists(st.sampled_from(symbols), min_size=1, max_size=4)),
        "venues": data.draw(st.none() | st.lists(st.sampled_from(venues), min_size=1, max_size=4)),
        "tiers": data.draw(st.none() | st.lists(st.sampled_from(TIER_NAMES), min_size=1)),
    }
    first, last = sorted(data.draw(st.tuples(st.sampled_from(WEEKS[:6]), st.sampled_from(WEEKS[:6]))))
    columns = {"symbols": "symbol", "venues": "id", "tiers": "tier"}
    where = [f"list_contains($wanted_{name}, {columns[name]})" for name, values in chosen.items() if values]
    values = {f"wanted_{name}": wanted for name, wanted in chosen.items() if wanted}
    expected = first_run.duck.execute(
        "SELECT week, tier, symbol, id, shares, trades FROM rows WHERE "
        + " AND ".join(["week BETWEEN $first AND $last", *where]),
        {"first": first, "last": last, **values},
    ).fetchall()
    names = ["week_ending", "tier", "symbol", "venue_id", "share_volume", "trade_count"]
    found = otc.read("venue_volume", chosen, weeks=f"{first}..{last}", columns=names)
    assert sorted(found.rows()) == sorted(expected)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_reads_its_columns_in_their_types(otc: Client, verb: str) -> None:
    statement = select(verb, limit=5).statement()
    assert otc._connections.rows(statement).schema == VERBS[verb].table.schema


def test_tiers_together_count_each_share_once(otc: Client, first_run: FirstRun) -> None:
    by_week = dict(first_run.duck.execute("SELECT week, sum(shares) FROM rows GROUP BY week").fetchall())
    with_all_tiers = set(WEEKS[:6])
    for frame, column in (
        (otc.rolling(), "current_volume"),
        (otc.summary(), "total_volume"),
        (otc.concentration(), "total_volume"),
        (otc.market_concentration(), "total_volume"),
        (otc.shares(), "total_volume"),
    ):
        sums = dict(frame.group_by("week_ending").agg(pl.col(column).sum()).rows())
        assert {week: sums[week] for week in with_all_tiers} == {week: by_week[week] for week in with_all_tiers}
    over_all = otc.rolling(tiers="ALL").group_by("week_ending").agg(pl.col("current_volume").sum())
    assert dict(over_all.rows()) == {week: by_week[week] for week in with_all_tiers}


def test_the_tables_with_rows_over_all_tiers_are_those_that_are_declared(first_run: FirstRun) -> None:
    """Elsewhere, ALL in the column is a change of venues, which is no sum."""
    have = {
        verb.table.name
        for verb in VERBS.values()
        if not verb.statement and "tier" in verb.table.schema
        if first_run.sql(f"SELECT 1 FROM otc.{verb.table.name} WHERE tier = 'ALL' LIMIT 1")
    }
    assert have - {"week_changes"} == HAVE_ALL_TIERS


def test_the_newest_weeks_are_counted_from_the_newest_of_the_tiers_asked_for(otc: Client) -> None:
    assert sorted(otc.summary(tiers="T1", weeks="last 3")["week_ending"].unique()) == WEEKS[-3:]
    assert sorted(otc.summary(tiers="T2", weeks="last 3")["week_ending"].unique()) == WEEKS[-5:-2]
    assert sorted(otc.shares(tiers=["T2", "OTCE"], weeks="newest")["week_ending"].unique()) == WEEKS[-3:-2]


def test_as_of_a_moment_before_a_revision_the_rows_are_those_before_it(otc: Client, first_run: FirstRun) -> None:
    (moment,) = otc.revisions()["known_to"].unique()
    columns = ["symbol", "venue_id", "share_volume"]
    before = otc.venue_volume("AAPL", weeks=REVISED, as_of=moment - dt.timedelta(microseconds=1), columns=columns)
    now = otc.venue_volume("AAPL", weeks=REVISED, columns=columns)
    for frame, table in ((before, "before"), (now, "rows")):
        expected = f"SELECT symbol, id, shares FROM {table} WHERE symbol = 'AAPL' AND week = '{REVISED}'"
        assert sorted(frame.rows()) == sorted(first_run.duck.execute(expected).fetchall())
    assert before.rows() != now.rows()
    assert otc.revisions(since=moment).height == otc.revisions().height > 0
    assert otc.revisions(since=moment + dt.timedelta(microseconds=1)).is_empty()
    with pytest.raises(NotFinal, match="could still change"):
        otc.summary("AAPL", as_of="2100-01-01T00:00Z")


def test_revisions_since_a_day_are_those_from_midnight_in_new_york_on(database: str) -> None:
    """At 03:59 UTC it is still the day before in New York."""
    columns = "week_ending, tier, symbol, issue_name, product_type, venue_kind, venue_id, venue_name, share_volume"
    with psycopg.connect(database) as connection:
        for symbol, known_to in (("OLD", "2026-09-30T03:59:59Z"), ("NEW", "2026-09-30T04:00Z")):
            connection.execute(
                f"INSERT INTO otc.venue_volume_revision ({columns}, trade_count, known_from, known_to, change)"
                " VALUES ('2026-08-21', 'OTC', %s, '', '', 'ATS', 'V', 'V', 1, 1, '2026-09-01', %s, 'removed')",
                [symbol, known_to],
            )
    with Client(database) as otc:
        for day in ("2026-09-30", dt.date(2026, 9, 30), "2026-09-30T00:00:00-04:00"):
            assert otc.revisions(since=day)["symbol"].to_list() == ["NEW"]
        assert set(otc.revisions(since="2026-09-29")["symbol"]) == {"OLD", "NEW"}
        with pytest.raises(InvalidQuery, match=r"since=may is not a day \(2026-09-30\), or a moment with a time zone"):
            otc.revisions(since="may")
        with pytest.raises(InvalidQuery, match="as_of=2026-09-30 is not a moment with a time zone"):
            otc.summary(as_of="2026-09-30")


@pytest.mark.parametrize("verb", ["venue_volume", "changes", "concentration", "coverage"])
def test_pages_that_continue_after_the_last_row_are_the_whole(otc: Client, verb: str) -> None:
    span = f"{WEEKS[0]}..{WEEKS[1]}"
    whole, pages, after = otc.read(verb, weeks=span), [], None
    while True:
        page = otc.read(verb, weeks=span, limit=max(whole.height // 5, 1), after=after)
        if page.is_empty():
            break
        pages.append(page)
        after = page.select(VERBS[verb].order).row(-1)
    assert len(pages) >= 5
    assert pl.concat(pages).equals(whole)


def test_numbers_are_exact_and_floats_are_a_choice(otc: Client, first_run: FirstRun) -> None:
    exact = first_run.duck.execute("SELECT sum(shares) FROM rows WHERE symbol = 'SPY'").fetchone()
    assert exact is not None
    volume = otc.venue_volume("SPY")["share_volume"]
    assert volume.dtype == pl.Decimal(38, 6)
    assert volume.sum() == exact[0]
    without = first_run.duck.execute("SELECT count(*) FROM rows WHERE symbol = 'SPY' AND mpid IS NULL").fetchone()
    assert (otc.venue_volume("SPY", columns="mpid")["mpid"].null_count(),) == without  # lines with nothing in them
    with Client(first_run.reader_url, decimals=False) as rounded:
        assert rounded.venue_volume("SPY")["share_volume"].dtype == pl.Float64
    frame = otc.summary("SPY").to_pandas()
    assert sum(frame["total_volume"]) == exact[0]
    assert isinstance(frame["total_volume"][0], Decimal)


# --- names -----------------------------------------------------------------------------------------------


def test_a_symbol_is_described_by_its_newest_week(otc: Client, first_run: FirstRun) -> None:
    row = otc.describe("AAPL").row(0, named=True)
    volume = first_run.duck.execute(f"SELECT sum(shares) FROM rows WHERE symbol = 'AAPL' AND week = '{WEEKS[-1]}'")
    assert (row["first_week"], row["last_week"], row["weeks"]) == (WEEKS[0], WEEKS[-1], 8)
    assert (row["total_volume"],) == volume.fetchone()
    share = otc.describe_venue("UBSA").filter(pl.col("tier") == "NMS Tier 1").row(0, named=True)
    expected = first_run.duck.execute(
        "SELECT 100 * sum(shares) FILTER (id = 'UBSA')::DOUBLE / sum(shares)::DOUBLE FROM rows"
        f" WHERE tier = 'NMS Tier 1' AND week = '{WEEKS[-1]}'"
    ).fetchone()
    assert expected is not None
    assert float(share["market_share_pct"]) == pytest.approx(expected[0], abs=1e-5)


def test_names_are_found_in_any_case_and_wildcards_are_letters(otc: Client) -> None:
    assert otc.find("CiTaDeL")["id"].to_list() == ["116797"]
    assert otc.find("aapl").row(0)[:3] == ("symbol", "AAPL", "Apple Inc. Common Stock")
    assert otc.find("%").is_empty()
    with pytest.raises(InvalidQuery, match="nothing to find"):
        otc.find(" ")


@pytest.mark.parametrize(("written", "near"), [("aapl", "AAPL"), ("AAP.L", "AAPL"), ("SPYY", "SPY")])
def test_a_symbol_that_does_not_exist_leads_to_a_near_one(otc: Client, written: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"no loaded week has the symbol '{written}'.*Similar: {near} ") as caught:
        otc.summary(written)
    assert caught.value.suggestions[0] == near
    for call in (
        lambda: otc.summary(["AAPL", written]),
        lambda: otc.summary(["AAPL", written], limit=1),
        lambda: otc.summary(["AAPL", written], columns="total_volume"),
        lambda: otc.describe(written),
    ):
        with pytest.raises(UnknownName, match=written):
            call()


def test_a_venue_that_does_not_exist_leads_to_those_of_that_name(otc: Client) -> None:
    with pytest.raises(UnknownName, match=r"no loaded week has the venue 'citadel'.*116797 \(CITADEL"):
        otc.shares("citadel")


# --- weeks without rows ----------------------------------------------------------------------------------


def test_weeks_without_rows_say_why_tier_by_tier(otc: Client) -> None:
    with time_machine.travel(NOW, tick=True):
        with pytest.raises(NoRows, match="NMS Tier 2, OTC, week 2026-09-25: pending: FINRA publishes it on 2026-10-26"):
            otc.summary(tiers=["T2", "OTCE"], weeks=WEEKS[-1])
        with pytest.raises(NoRows, match="never requested: the first loaded week is 2026-08-07.*2026-09-25"):
            otc.venue_volume("AAPL", weeks="2026-05-01")
        with pytest.raises(NoRows, match="2030-05-03: pending"):
            otc.shares(weeks="2030-05-01..2030-05-03")
        with pytest.raises(
            NoRows, match="coverage has no rows. .*never requested: the first loaded week is 2026-08-07"
        ):
            otc.coverage(weeks="2026-05-01")
        with pytest.raises(
            NoRows, match="coverage has no rows. .*week 2030-05-03: pending: FINRA publishes it on 2030"
        ):
            otc.coverage(weeks="2030-05-01")


def test_an_answer_as_of_a_moment_before_the_first_load_says_when_that_was(otc: Client, first_run: FirstRun) -> None:
    ((first,),) = first_run.sql("SELECT min(known_from) FROM otc.symbol_summary")
    moment = first - dt.timedelta(microseconds=1)
    for wanted in (None, "newest", "last 3"):
        with pytest.raises(NoRows, match="summary has no rows as of .*: nothing of it was known then") as none:
            otc.summary("AAPL", weeks=wanted, as_of=moment)
        assert none.value.remedy == f"The first load was at {first.isoformat(timespec='seconds')}."
    ((later,),) = first_run.sql(f"SELECT min(known_from) FROM otc.symbol_summary WHERE week_ending = '{WEEKS[-1]}'")
    with pytest.raises(
        NoRows, match=f"nothing of these weeks was known.*{later.isoformat(timespec='seconds')}".replace("+", r"\+")
    ):
        otc.summary(weeks=WEEKS[-1], as_of=later - dt.timedelta(microseconds=1))
    # A symbol that did not trade has no rows: that is no question of the moment.
    assert otc.read("venue_succession", as_of=later, weeks=WEEKS[0]).is_empty()


def test_a_symbol_that_did_not_trade_in_a_loaded_week_has_no_rows(otc: Client, first_run: FirstRun) -> None:
    symbol, week = first_run.duck.execute(
        "SELECT symbol, w.week FROM (SELECT DISTINCT symbol FROM rows) s, (SELECT DISTINCT week FROM rows) w"
        " WHERE w.week <= '2026-09-11' AND NOT EXISTS"
        " (FROM rows r WHERE r.symbol = s.symbol AND r.week = w.week) ORDER BY ALL LIMIT 1"
    ).fetchall()[0]
    assert otc.summary(symbol, weeks=week).is_empty()
    assert otc.summary(symbol, weeks=week).schema == VERBS["summary"].table.schema


def test_tables_of_other_data_sets_and_rare_figures_may_be_empty(otc: Client) -> None:
    """Nothing is missing: no venue succeeded another in that week, and no threshold list was captured before it."""
    assert otc.read("venue_succession", weeks=WEEKS[0]).is_empty()
    assert otc.read("threshold_security", weeks="2026-01-02").is_empty()


def test_weeks_that_retention_deleted_or_that_are_graded_f_or_not_computed_say_so(database: str) -> None:
    with psycopg.connect(database) as connection:
        for week, grade in (("2026-06-05", "A"), ("2026-07-03", "F"), ("2026-07-10", "A")):
            connection.execute(
                "INSERT INTO otc.week_state (week_ending, tier, captured_at, normalized_at, grade, updated_at)"
                " VALUES (%s, 'OTC', now(), now(), %s, now())",
                [week, grade],
            )
        connection.execute("INSERT INTO otc.computed_week VALUES ('symbol_summary', '2026-06-05', '1', 10)")
        connection.execute(
            "UPDATE otc.retention SET keep_weeks = 52, dropped_until = '2026-05-29' WHERE what = 'venue_volume'"
        )
        connection.execute("INSERT INTO otc.computed_week VALUES ('venue_volume', '2026-06-05', '1', 10)")
        connection.execute(
            "INSERT INTO otc.gap (week_ending, tier, status, due, fetchable, rows_loaded, detail)"
            " VALUES ('2026-06-12', 'OTC', 'missing_inside', '2026-07-13', true, 0, 'it was due on Monday')"
        )
    with Client(database) as otc:
        for verb, week, reason in (
            (
                "venue_volume",
                "2026-05-29",
                "retention has deleted it: 52 weeks of .* are kept, since 2026-06-05",
            ),
            ("coverage", "2026-05-29", "retention has deleted it: 52 weeks of venue_volume are kept"),
            ("summary", "2026-07-03", "it is graded F"),
            ("summary", "2026-07-10", "it is normalized, and symbol_summary is not computed yet"),
            ("summary", "2026-06-12", "missing_inside: it was due on Monday. 'otc-assets backfill --weeks 2026-06-12'"),
        ):
            with pytest.raises(NoRows, match=reason):
                otc.read(verb, {"tiers": "OTC"}, weeks=week)


def test_a_figure_of_which_no_week_is_computed_says_so(database: str) -> None:
    """After an upgrade that adds a figure, its weeks looked as if nothing had traded in them."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO otc.week_state (week_ending, tier, captured_at, normalized_at, grade, updated_at)"
            " VALUES ('2026-06-05', 'OTC', now(), now(), 'A', now())"
        )
    with Client(database) as otc, pytest.raises(NoRows, match="it is normalized, and symbol_summary is not computed"):
        otc.summary(weeks="2026-06-05", tiers="OTC")


def test_an_empty_database_says_that_nothing_is_loaded(database: str) -> None:
    with Client(database) as otc:
        with pytest.raises(NoRows, match="is loaded yet.*otc-assets up"):
            otc.summary()
        with pytest.raises(UnknownName, match="Nothing is loaded yet"):
            otc.summary("AAPL", weeks="newest")
        assert otc.coverage().is_empty()


def test_a_server_that_is_silent_is_not_waited_for_beyond_the_time_out(
    first_run: FirstRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server enforces the time-out of a statement; one that is frozen does not."""
    monkeypatch.setattr("otc_assets.client.connection._GRACE_SECONDS", 1)
    with relay(first_run.reader_url) as between, Client(between.url, timeout=1) as otc:
        assert otc.sql("SELECT 1 AS one").item() == 1
        between.silence.set()
        with pytest.raises(TimedOut, match="the server has not answered for"):
            otc.sql("SELECT 1 AS one")
        between.silence.clear()
        assert otc.sql("SELECT 1 AS one").item() == 1
        # A pooler without a free connection to the server accepts the login, and then says nothing.
        monkeypatch.setattr("otc_assets.client.connection._CONNECT_SECONDS", 2)
        between.swallowing.set()
        with Client(between.url) as other, pytest.raises(Unreachable, match="and then did not answer"):
            other.sql("SELECT 1 AS one")


# --- SQL and connections -----------------------------------------------------------------------------------


def test_sql_keeps_the_types_of_the_server(otc: Client) -> None:
    frame = otc.sql(
        "SELECT 1::int4 AS i, 2.50::numeric(10, 2) AS n, 0.125::numeric AS m, 'x'::text AS t, true AS b,"
        " DATE '2026-08-21' AS d, TIMESTAMPTZ '2026-08-21 12:00+02' AS at, '{\"a\": 1}'::jsonb AS j, 0.5::float8 AS f"
    )
    assert frame.row(0) == (
        *(1, Decimal("2.50"), Decimal("0.125"), "x", True, dt.date(2026, 8, 21)),
        *(dt.datetime(2026, 8, 21, 10, tzinfo=dt.UTC), '{"a": 1}', 0.5),
    )
    assert frame.schema["n"] == pl.Decimal(10, 2)
    assert otc.sql("SELECT NULL::numeric AS n WHERE false").schema == {"n": pl.Decimal(38, 0)}
    for query, message in (
        ("SELECT 1 AS a, 2 AS a", "several columns a"),
        ("SELECT 'NaN'::numeric AS n", "not numbers"),
        ("SELECT repeat('9', 40)::numeric AS n", "more than 38 digits"),
    ):
        with pytest.raises(InvalidQuery, match=message):
            otc.sql(query)


def test_nothing_can_be_written_not_even_by_the_owner_of_the_schema(first_run: FirstRun) -> None:
    with Client(first_run.url) as owner:
        before = owner.sql("SELECT count(*) AS n FROM otc.week_calendar").item()
        for statement in (
            "DELETE FROM otc.week_calendar RETURNING 1",
            "COMMIT; DELETE FROM otc.week_calendar; SELECT 1",
            "CREATE TABLE otc.x ()",
        ):
            with pytest.raises(QueryFailed, match="read-only|multiple commands"):
                owner.sql(statement)
        assert owner.sql("SELECT count(*) AS n FROM otc.week_calendar").item() == before


def test_what_a_statement_sets_is_undone_and_opens_no_way_to_write(first_run: FirstRun) -> None:
    """With the owner's URL, a session that was set to read and write deleted rows."""
    with Client(first_run.url, connections=1) as owner:
        owner.sql("SELECT set_config('default_transaction_read_only', 'off', false)")
        with pytest.raises(QueryFailed, match="read-only"):
            owner.sql("DELETE FROM otc.week_calendar RETURNING tier")
        for statement in (
            "SET DateStyle = 'German'",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            "COMMIT",
        ):
            with pytest.raises(InvalidQuery, match="returns no rows"):
                owner.sql(statement)
        with pytest.raises(QueryFailed, match="read-only"):
            owner.sql("DELETE FROM otc.week_calendar RETURNING tier")
        assert owner.sql("SELECT current_setting('DateStyle') AS style").item().startswith("ISO")


def test_text_that_no_database_can_have_is_an_invalid_query(database: str) -> None:
    """A shell passes bytes that are not UTF-8 on so; the command showed it as a bug."""
    with Client(database) as otc:
        for read in (otc.summary, otc.describe, otc.find, otc.sql):
            with pytest.raises(InvalidQuery, match=r"a\\udcff%?' is not text in UTF-8"):
                read("a\udcff")


def test_a_statement_that_is_no_query_is_refused_with_its_own_reason(database: str) -> None:
    """The reason was that the roll-back could not be sent."""
    with Client(database, connections=1) as otc:
        with pytest.raises(QueryFailed, match="COPY cannot be used"):
            otc.sql("COPY otc.gap TO STDOUT")
        assert otc.sql("SELECT 1 AS one").item() == 1


def test_names_that_only_the_tables_own_rows_have_are_no_unknown_names(database: str) -> None:
    """A firm that no week names, but a month, was unknown if the rows did not show its number or filled the page."""
    with psycopg.connect(database) as connection:
        connection.execute(
            "INSERT INTO otc.firm_month (week_ending, month_start, market, venue_id, total_volume, total_trades,"
            " symbol_count, rank, known_from) VALUES ('2026-07-31', '2026-07-01', 'NMS', '99999', 1, 1, 1, 1, now()),"
            " ('2026-07-31', '2026-07-01', 'NMS', '99998', 1, 1, 1, 2, now())"
        )
    with Client(database) as otc:
        assert otc.read("firm_month", {"venues": "99999"}, limit=1).height == 1
        columns = ["month_start", "total_volume"]
        assert otc.read("firm_month", {"venues": ["99999", "99998"]}, columns=columns).height == 2
        with pytest.raises(UnknownName, match="'11111'"):
            otc.read("firm_month", {"venues": ["99999", "11111"]}, columns=columns)


def test_a_statement_that_takes_too_long_is_stopped_with_what_to_do(first_run: FirstRun) -> None:
    with Client(first_run.reader_url, timeout=0.2) as hurried, pytest.raises(QueryFailed, match="longer time-out"):
        hurried.sql("SELECT pg_sleep(30)::text AS slept")


def test_connections_that_the_server_closed_are_opened_again(first_run: FirstRun) -> None:
    with Client(first_run.url) as owner:
        expected = owner.summary("AAPL").rows()
        ended = first_run.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'otc-assets client' AND usename = current_user"
        )
        assert ended == [(True,)]
        assert owner.summary("AAPL").rows() == expected


def test_threads_share_the_connections_of_a_client(first_run: FirstRun) -> None:
    with Client(first_run.reader_url, connections=2) as shared, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shared.summary("AAPL").rows(), range(24)))
        assert len(shared._connections._idle) <= 2
    assert found == [found[0]] * 24


def test_errors_of_connecting_have_no_password(first_run: FirstRun) -> None:
    wrong = first_run.reader_url.replace("otc_analyst:", "otc_analyst:wrong-secret-")
    for url, kind in (
        (wrong, Unreachable),
        ("postgresql://me:very-secret@127.0.0.1:1/otc", Unreachable),
        ("mysql://me:very-secret@127.0.0.1/otc", InvalidQuery),
    ):
        with Client(url) as closed, pytest.raises(kind) as caught:
            closed.sql("SELECT 1")
        assert caught.value.__suppress_context__
        assert "secret" not in str(caught.value)


def test_without_an_installation_the_client_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("OTC_DATABASE_URL", raising=False)
    monkeypatch.setenv("OTC_HOME", str(tmp_path))
    settings_module.settings.cache_clear()
    with Client() as nowhere, pytest.raises(Unreachable, match=r"no database in .*otc-assets up.*OTC_DATABASE_URL"):
        nowhere.gaps()
    settings_module.settings.cache_clear()


# --- documentation and import --------------------------------------------------------------------------------


def test_the_examples_in_docstrings_are_true(first_run: FirstRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTC_DATABASE_URL", first_run.reader_url)
    attempted = 0
    with Client() as otc:
        for module in (otc_assets.client, client, reader, explain, weeks):
            result = doctest.testmod(module, extraglobs={"otc": otc, "Client": Client})
            assert result.failed == 0, module.__name__
            attempted += result.attempted
    assert attempted > 25


def test_importing_the_client_loads_neither_dagster_nor_sqlalchemy_nor_pandas() -> None:
    script = "import sys, otc_assets.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"dagster", "sqlalchemy", "pandas", "pyarrow", "psycopg", "pydantic", "typer", "rich", "alembic"}
    assert heavy & set(loaded) == set()
    assert "polars" in loaded
    # 467 when this was written; half a second of imports are some hundred modules more.
    assert len(loaded) < 600
