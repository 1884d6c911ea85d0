"""Members of our enumerations are plain strings wherever they go."""

from __future__ import annotations

import json

import polars as pl

from otc_assets.domain.enums import Severity, VenueKind

FRAME = pl.DataFrame({"venue_kind": ["ATS", "NON_ATS", "another"]})
KIND = pl.col("venue_kind")


def test_a_member_in_an_expression_gives_a_column_of_strings() -> None:
    chosen = pl.when(KIND == VenueKind.ATS).then(pl.lit(VenueKind.ATS)).otherwise(pl.lit(VenueKind.DE_MINIMIS))
    made = FRAME.select(chosen.alias("kind"))
    assert made.schema == {"kind": pl.String}
    assert made["kind"].to_list() == ["ATS", "DE_MINIMIS", "DE_MINIMIS"]


def test_members_select_rows_also_where_the_column_has_other_strings() -> None:
    assert FRAME.filter(KIND.is_in(list(frozenset({VenueKind.ATS, VenueKind.NON_ATS})))).height == 2
    assert FRAME.filter(KIND == VenueKind.NON_ATS).height == 1


def test_members_become_strings_in_a_frame_of_a_schema_and_as_replacements() -> None:
    frame = pl.DataFrame([{"severity": Severity.WARN}, {"severity": "other"}], schema={"severity": pl.String})
    assert frame["severity"].to_list() == ["warn", "other"]
    kind_of = {"ATS": VenueKind.ATS, "NON_ATS": VenueKind.NON_ATS}
    replaced = FRAME.select(KIND.replace_strict(kind_of, default=None, return_dtype=pl.String))
    assert replaced["venue_kind"].to_list() == ["ATS", "NON_ATS", None]


def test_members_are_strings_in_json_and_in_messages() -> None:
    assert json.dumps({"severity": Severity.ERROR}) == '{"severity": "error"}'
    assert f"{Severity.ERROR}" == "error"
