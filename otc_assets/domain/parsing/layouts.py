"""The column names of FINRA's layouts, and recognizing a layout by them.

Reading the rows below a header is in ``delimited``, ``spreadsheets`` and ``json_records``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from otc_assets.domain.enums import FileLayout
from otc_assets.domain.parsing.limits import UnreadableFile

#: FINRA's field names (Query API and download file), each with its column in RECORD.
FIELDS = {
    "weekStartDate": "week_start",
    "tierIdentifier": "tier_id",
    "tierDescription": "tier_name",
    "issueSymbolIdentifier": "symbol",
    "issueName": "issue_name",
    "productTypeCode": "product_type",
    "summaryTypeCode": "summary_type",
    "MPID": "mpid",
    "firmCRDNumber": "firm_crd",
    "marketParticipantName": "participant_name",
    "totalWeeklyShareQuantity": "shares",
    "totalWeeklyTradeCount": "trades",
    "totalNotionalSum": "notional",
    "lastUpdateDate": "last_update_date",
    "initialPublishedDate": "initial_published_date",
    "lastReportedDate": "last_reported_date",
}
#: The column names of files until about 2018.
LEGACY_FIELDS = {
    "Report_Type": "tier_name",
    "Symbol": "symbol",
    "Issue_Description": "issue_name",
    "ATS_Description": "participant_name",
    "OTC_Non-ATS_Description": "participant_name",
    "ATS_MPID": "mpid",
    "Shares": "shares",
    "Trades": "trades",
    "Last_Updated": "last_update_date",
    "Shares_Last_Updated": "last_update_date",
}
_OF_LEGACY = ("tier_name", "symbol", "issue_name", "participant_name", "shares", "trades", "last_update_date")
_REQUIRED = {
    FileLayout.WEBSITE: (*_OF_LEGACY, "mpid"),
    FileLayout.LEGACY: _OF_LEGACY,
    FileLayout.API: ("week_start", "symbol", "shares", "trades"),
}


@dataclass(frozen=True)
class Header:
    """The columns of a file.

    Attributes:
        layout: the layout of its rows.
        delimiter: what separates the fields of a line.
        quoted: whether a field may be in quotation marks.
        names: FINRA's column names, by position.
        columns: the columns of RECORD, by position; None for a column that is not used.
    """

    layout: FileLayout
    delimiter: str
    quoted: bool
    names: list[str]
    columns: list[str | None]

    @property
    def fields(self) -> dict[str, str]:
        """By column of RECORD, FINRA's name of it."""
        return {column: field for column, field in zip(self.columns, self.names, strict=True) if column is not None}


def header_of(names: list[str], delimiter: str, name: str, *, is_quoted: bool = False) -> Header:
    """Recognizes the layout that has these column names.

    Args:
        names: the column names, by position.
        delimiter: what separates them.
        name: the file, for messages.
        is_quoted: whether the header has quotation marks.

    Raises:
        UnreadableFile: no layout has these names; or columns are missing, or named more than once.
    """
    # Refusals are stored in events and alerts. They quote no unknown names: the file may be any file of this machine.
    known: Mapping[str, str]
    if any(column in FIELDS for column in names):
        known, layout = FIELDS, FileLayout.API if "weekStartDate" in names else FileLayout.WEBSITE
    elif any(column in LEGACY_FIELDS for column in names):
        known, layout = LEGACY_FIELDS, FileLayout.LEGACY
    else:
        problem = f"its first line is not a FINRA header: it names {len(names)} columns, and none of FINRA's columns"
        remedy = "A download file begins with tierDescription|issueSymbolIdentifier|..."
        raise UnreadableFile(name, problem, remedy, line=1)
    if layout != FileLayout.API and delimiter != "|":
        problem = f"its columns are separated by {delimiter!r}, and FINRA's by '|'"
        raise UnreadableFile(name, problem, "Another program has changed it: download it again", line=1)
    columns = [known.get(column) for column in names]
    missing = [column for column in _REQUIRED[layout] if column not in columns]
    if layout == FileLayout.API and "tier_id" not in columns and "tier_name" not in columns:
        missing.append("tier_id")
    if missing:
        field_of = {column: field for field, column in reversed(known.items())}
        raise UnreadableFile(
            name,
            f"its header lacks {', '.join(field_of[column] for column in missing)}; of its {len(names)} columns, "
            f"FINRA's are {', '.join(column for column in names if column in known)}",
            "The file is incomplete, or FINRA has changed the layout: download it again",
            line=1,
        )
    repeated = sorted({column for column in names if column in known and names.count(column) > 1})
    if repeated:
        problem = f"its header names {', '.join(repeated)} more than once, so its values are ambiguous"
        raise UnreadableFile(name, problem, "Download it again", line=1)
    return Header(layout, delimiter, is_quoted or (layout == FileLayout.API and delimiter != "|"), names, columns)
