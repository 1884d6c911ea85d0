"""Roles of firms, by a reviewed list, and the share of each role in a tier's volume.

``reference/firm_roles.csv`` is the list: of each firm or ATS a role, and the public document that says so. FINRA's rows
have no roles. A firm that is not in the list is unattributed, as is the De Minimis group. The list does not name all
firms, so the share of a named role is a lower bound. An ATS has the role of its operator.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from otc_assets.domain.enums import FirmRole
from otc_assets.domain.exact import complete_sum, percent
from otc_assets.domain.reviewed import BadList, entries, shipped, version
from otc_assets.domain.schema import DE_MINIMIS_VENUE_ID, ROLE_SHARE, half_of_venue

_COLUMNS = ("venue_id", "name", "role")
#: How FINRA's spelling of a name may differ: "Jane Street Capital, LLC" is JANE STREET CAPITAL LLC.
_IGNORED = r"[^A-Z0-9&]+"


@dataclass(frozen=True)
class Firm:
    """A line of the list.

    Attributes:
        venue_id: the MPID of an ATS or the CRD number of a firm; 'name:...' where no document with the number is known.
        name: as FINRA writes it.
        role: its role, or that of the ATS's operator.
        source: the document.
        reviewed: the day on which the line was reviewed.
    """

    venue_id: str
    name: str
    role: FirmRole
    source: str
    reviewed: dt.date


def parsed(lines: Iterable[str]) -> tuple[Firm, ...]:
    """The firms of a list.

    Args:
        lines: a reviewed list with the columns ``venue_id,name,role``.

    Raises:
        BadList: a line is incomplete, has an unknown role or a day that is none, or repeats an id or a name.
    """
    found: list[Firm] = []
    seen: dict[str, str] = {}
    for where, (venue_id, name, role, source), day in entries(lines, _COLUMNS):
        if role not in named_roles():
            raise BadList(f"{where}: the role {role!r} is not one of {', '.join(named_roles())}")
        if venue_id == DE_MINIMIS_VENUE_ID:
            raise BadList(f"{where}: the De Minimis group has no role")
        if venue_id.startswith("name:") and venue_id != f"name:{name}":
            raise BadList(f"{where}: {venue_id!r} and the name {name!r} differ")
        for what in (venue_id, f"the name {name}"):
            if what in seen:
                raise BadList(f"{where}: {what} is in {seen[what]} too")
            seen[what] = where
        found.append(Firm(venue_id, name, FirmRole(role), source, day))
    return tuple(found)


def _spelled(name: str) -> str:
    return re.sub(_IGNORED, "", name.upper())


def named_roles() -> list[FirmRole]:
    """The roles that the list can give a firm."""
    return [role for role in FirmRole if role != FirmRole.UNATTRIBUTED]


#: The reviewed list that ships with the package.
FIRMS = parsed(shipped("firm_roles.csv"))
#: Of the firms and their roles: figures that follow the list are computed again when it changes. Other columns don't
#: matter.
ROLES_VERSION = version((firm.venue_id, firm.name, firm.role) for firm in FIRMS)


def role_share(venue_share: pl.DataFrame, firms: Iterable[Firm] = FIRMS) -> pl.DataFrame:
    """The volume, value and share of each role in a tier's week, among ATSs and among other firms.

    Args:
        venue_share: VENUE_SHARE of any weeks and tiers.
        firms: the list of roles.

    Returns:
        ROLE_SHARE, sorted by its key. Shares and ranks by value are null unless every venue of the tier has a value.
        Ranks have no ties: they are by volume or value, then by role.
    """
    tier = ["week_ending", "tier"]
    half = [*tier, "venue_scope"]
    volume, value = pl.col("total_volume"), pl.col("total_notional")
    roles = (
        venue_share.with_columns(half_of_venue().alias("venue_scope"), _role(firms).alias("role"))
        .group_by(*half, "role")
        .agg(
            pl.len().cast(pl.Int64).alias("firm_count"),
            volume.sum(),
            pl.col("total_trades").sum(),
            complete_sum("total_notional"),
        )
    )
    place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    has_values = value.is_not_null().all().over(tier)
    by_value: Mapping[str, pl.Expr] = {
        "notional_share_pct": percent(value, value.sum().over(tier)),
        "kind_notional_share_pct": percent(value, value.sum().over(half)),
        "kind_notional_rank": place.over(half),
    }
    return (
        roles.sort("total_volume", "role", descending=[True, False])
        .with_columns(
            percent(volume, volume.sum().over(tier)).alias("market_share_pct"),
            percent(volume, volume.sum().over(half)).alias("kind_share_pct"),
            place.over(half).alias("kind_rank"),
        )
        .sort("total_notional", "role", descending=[True, False])
        .with_columns(pl.when(has_values).then(figure).alias(name) for name, figure in by_value.items())
        .select(list(ROLE_SHARE))
        .cast(dict(ROLE_SHARE))  # type: ignore[arg-type]
        .sort(*half, "role")
    )


def _role(firms: Iterable[Firm]) -> pl.Expr:
    """A venue's role: by its id; by its name where the list does not have the id."""
    firms = tuple(firms)
    ids = {firm.venue_id: firm.role.value for firm in firms}
    names = {_spelled(firm.name): firm.role.value for firm in firms}
    kind = {"return_dtype": pl.String, "default": None}
    venue_name = pl.col("venue_name").str.to_uppercase().str.replace_all(_IGNORED, "")
    return pl.coalesce(
        pl.col("venue_id").replace_strict(list(ids), list(ids.values()), **kind),  # type: ignore[arg-type]
        venue_name.replace_strict(list(names), list(names.values()), **kind),  # type: ignore[arg-type]
        pl.lit(FirmRole.UNATTRIBUTED.value),
    )
