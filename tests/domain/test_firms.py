"""Roles of firms: the list that ships with the package, lists that are refused, and the shares of roles."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from weekly_rows import WEEK, millionths, rounded_sql, sql, volume_row, volumes

from otc_assets.domain.enums import FirmRole
from otc_assets.domain.firms import FIRMS, Firm, parsed, role_share
from otc_assets.domain.reviewed import BadList
from otc_assets.domain.schema import DE_MINIMIS_VENUE_ID, ROLE_SHARE, VENUE_SHARE, VENUE_VOLUME
from otc_assets.domain.summaries import venue_share

HEADER = "venue_id,name,role,source,reviewed"
GOOD = "116797,CITADEL SECURITIES LLC,wholesaler,BrokerCheck,2026-11-26"


def firm(venue_id: str, role: FirmRole, name: str = "") -> Firm:
    return Firm(venue_id, name or f"Firm {venue_id}", role, "by hand", dt.date(2026, 11, 26))


#: UBSA and 7897 are of banks, SGMT and 6413 of wholesalers; INCR, JPMX, 149777 and the group are not in the list.
LIST = (
    firm("UBSA", FirmRole.BANK_DESK),
    firm("SGMT", FirmRole.WHOLESALER),
    firm("7897", FirmRole.BANK_DESK),
    firm("6413", FirmRole.WHOLESALER),
)


def test_the_list_has_the_wholesalers_of_retail_orders_and_the_numbers_that_documents_support() -> None:
    """Found in BrokerCheck reports; the others are known by name alone."""
    roles = {firm.venue_id: (firm.name, firm.role) for firm in FIRMS}
    assert roles["116797"] == ("CITADEL SECURITIES LLC", FirmRole.WHOLESALER)
    assert roles["149823"] == ("VIRTU AMERICAS LLC", FirmRole.WHOLESALER)
    assert roles["7654"] == ("UBS SECURITIES LLC", FirmRole.BANK_DESK)
    assert roles["name:JANE STREET CAPITAL, LLC"] == ("JANE STREET CAPITAL, LLC", FirmRole.WHOLESALER)
    assert roles["BIDS"][1] == FirmRole.EXCHANGE_AFFILIATED
    assert roles["IATS"][1] == FirmRole.BROKER_DEALER
    assert all(firm.source and firm.reviewed <= dt.date(2026, 12, 31) for firm in FIRMS)


def test_a_list_has_an_id_a_name_a_role_a_source_and_a_day_in_each_line() -> None:
    (firm,) = parsed([HEADER, GOOD])
    assert firm == Firm("116797", "CITADEL SECURITIES LLC", FirmRole.WHOLESALER, "BrokerCheck", dt.date(2026, 11, 26))
    assert parsed([HEADER]) == ()


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "line 1: the header must be venue_id,name,role,source,reviewed"),
        (["id,name,role", GOOD], "line 1: the header must be"),
        ([HEADER, GOOD, GOOD.replace("CITADEL", "OTHER")], "line 3: 116797 is in line 2 too"),
        ([HEADER, GOOD, GOOD.replace("116797", "1")], "line 3: the name CITADEL SECURITIES LLC is in line 2 too"),
        (
            [HEADER, GOOD.replace("wholesaler", "broker")],
            "line 2: the role 'broker' is not one of wholesaler, bank_desk",
        ),
        ([HEADER, GOOD.replace("wholesaler", "unattributed")], "line 2: the role 'unattributed' is not one of"),
        ([HEADER, GOOD.replace("BrokerCheck", "")], "line 2: a line has 5 values, none of them empty"),
        ([HEADER, GOOD.replace("116797", " 116797")], "line 2: a line has 5 values"),
        ([HEADER, "116797,CITADEL"], "line 2: a line has 5 values"),
        ([HEADER, GOOD.replace("2026-11-26", "26.11.2026")], "line 2: reviewed must be a day as 2026-11-26"),
        ([HEADER, GOOD.replace("116797", "DE_MINIMIS")], "line 2: the De Minimis group has no role"),
        ([HEADER, GOOD.replace("116797", "name:OTHER")], "line 2: 'name:OTHER' and the name 'CITADEL"),
        ([HEADER, '"116797"x,a,b,c,d'], "line 2: "),
    ],
)
def test_a_list_that_cannot_be_right_is_refused_with_its_line(lines: list[str], reason: str) -> None:
    with pytest.raises(BadList, match=rf"^{reason}"):
        parsed(lines)


def shares(*rows: tuple[str, str, int, str | None], names: dict[str, str] | None = None) -> pl.DataFrame:
    """VENUE_SHARE of (venue, shares, trades, dollars); a venue's name is that of ``names``."""
    volume = [
        volume_row("A", venue, amount, trades)
        | {"notional": None if value is None else Decimal(value), "venue_name": (names or {}).get(venue, venue)}
        for venue, amount, trades, value in rows
    ]
    return venue_share(pl.DataFrame(volume, schema=VENUE_VOLUME))


def test_roles_have_their_shares_of_the_tier_and_of_their_half() -> None:
    """By hand: of 1,000 shares 600 are on ATSs (UBSA 450, INCR 150), 400 at firms (7897 250, 6413 50, 149777 and the
    group 50 each). Of 2,000 dollars, 500 are on ATSs: UBSA 100, INCR 400.
    """
    rows = shares(
        ("UBSA", "450", 4, "100"),
        ("INCR", "150", 3, "400"),
        ("7897", "250", 2, "300"),
        ("6413", "50", 2, "900"),
        ("149777", "50", 1, "150"),
        (DE_MINIMIS_VENUE_ID, "50", 1, "150"),
    )
    made = role_share(rows, LIST)
    assert made.schema == ROLE_SHARE
    columns = ["venue_scope", "role", "firm_count", "total_volume", "total_trades", "market_share_pct"]
    assert made.select(*columns, "kind_share_pct", "kind_rank").rows() == [
        ("ATS", "bank_desk", 1, Decimal(450), 4, Decimal(45), Decimal(75), 1),
        ("ATS", "unattributed", 1, Decimal(150), 3, Decimal(15), Decimal(25), 2),
        ("NON_ATS", "bank_desk", 1, Decimal(250), 2, Decimal(25), Decimal("62.5"), 1),
        ("NON_ATS", "unattributed", 2, Decimal(100), 2, Decimal(10), Decimal(25), 2),
        ("NON_ATS", "wholesaler", 1, Decimal(50), 2, Decimal(5), Decimal("12.5"), 3),
    ]
    of_value = ["total_notional", "notional_share_pct", "kind_notional_share_pct", "kind_notional_rank"]
    assert made.select(of_value).rows() == [
        (Decimal(100), Decimal(5), Decimal(20), 2),
        (Decimal(400), Decimal(20), Decimal(80), 1),
        (Decimal(300), Decimal(15), Decimal(20), 2),
        (Decimal(300), Decimal(15), Decimal(20), 3),  # of equals, the first by role
        (Decimal(900), Decimal(45), Decimal(60), 1),
    ]


def test_a_firm_whose_number_is_not_in_the_list_is_found_by_its_name() -> None:
    """FINRA's spelling differs from time to time in case, commas and full stops. The number comes first."""
    known = (
        firm("name:JANE STREET CAPITAL, LLC", FirmRole.WHOLESALER, "JANE STREET CAPITAL, LLC"),
        firm("7897", FirmRole.BANK_DESK, "A Bank"),
    )
    names = {
        "103": "Jane Street Capital L.L.C.",
        "104": "JANE STREET EXECUTION SERVICES, LLC",
        "7897": "Jane Street Capital, LLC",
    }
    made = role_share(shares(("103", "1", 1, None), ("104", "2", 1, None), ("7897", "4", 1, None), names=names), known)
    assert made.select("role", "total_volume").rows() == [
        ("bank_desk", Decimal(4)),
        ("unattributed", Decimal(2)),
        ("wholesaler", Decimal(1)),
    ]


def test_without_a_value_of_every_venue_there_are_no_shares_of_value() -> None:
    made = role_share(shares(("UBSA", "1", 1, "10"), ("INCR", "1", 1, None)), LIST)
    assert made.select("role", "total_notional", "notional_share_pct", "kind_notional_rank").rows() == [
        ("bank_desk", Decimal(10), None, None),
        ("unattributed", None, None, None),
    ]


def test_without_rows_there_are_no_shares() -> None:
    assert role_share(VENUE_SHARE.to_frame()).schema == ROLE_SHARE


@settings(max_examples=25, deadline=None)
@given(rows=volumes(weeks=(WEEK, WEEK + dt.timedelta(weeks=1))))
def test_the_shares_of_roles_are_those_that_duckdb_computes_from_venue_volume(rows: pl.DataFrame) -> None:
    """An independent engine, on any rows, from the source of the source."""
    half, of_tier = "week_ending, tier, scope", "sum(dollars) OVER (PARTITION BY week_ending, tier)"
    expected = sql(
        f"""
        WITH role AS (
            SELECT week_ending, tier, CASE WHEN venue_kind = 'ATS' THEN 'ATS' ELSE 'NON_ATS' END AS scope,
                CASE WHEN venue_id IN ('UBSA', '7897') THEN 'bank_desk' WHEN venue_id IN ('SGMT', '6413')
                    THEN 'wholesaler' ELSE 'unattributed' END AS role,
                count(DISTINCT venue_id) AS firms, sum((share_volume * 1000000)::HUGEINT) AS shares,
                sum(trade_count)::BIGINT AS trades,
                CASE WHEN count(*) = count(notional) THEN sum((notional * 1000000)::HUGEINT) END AS dollars
            FROM v GROUP BY ALL
        ), complete AS (
            SELECT week_ending, tier, count(*) = count(notional) AS complete FROM v GROUP BY ALL
        )
        SELECT week_ending, tier, scope, role, firms, shares, trades,
            {rounded_sql("100 * shares", "sum(shares) OVER (PARTITION BY week_ending, tier)")},
            {rounded_sql("100 * shares", f"sum(shares) OVER (PARTITION BY {half})")},
            row_number() OVER (PARTITION BY {half} ORDER BY shares DESC, role), dollars,
            CASE WHEN complete THEN {rounded_sql("100 * dollars", of_tier)} END,
            CASE WHEN complete THEN {rounded_sql("100 * dollars", f"sum(dollars) OVER (PARTITION BY {half})")} END,
            CASE WHEN complete THEN row_number() OVER (PARTITION BY {half} ORDER BY dollars DESC, role) END
        FROM role JOIN complete USING (week_ending, tier) ORDER BY {half}, role
        """,
        v=rows,
    )
    assert millionths(role_share(venue_share(rows), LIST), *ROLE_SHARE) == expected
