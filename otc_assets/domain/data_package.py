"""The description of the exported data set, ``datapackage.json``: a Data Package of the Frictionless standard 2.0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from otc_assets.domain.parquet import columns_of, exported_tables
from otc_assets.domain.table import Table

_TYPES = {pl.Date: "date", pl.String: "string", pl.Int64: "integer", pl.Boolean: "boolean"}

#: FINRA's pages. The terms allow non-commercial use, and redistribution for it, with FINRA named and free of charge.
_SOURCES = [
    {
        "title": "FINRA, OTC (ATS & Non-ATS) Transparency",
        "path": "https://www.finra.org/filing-reporting/otc-transparency",
    },
]
_LICENSES = [
    {
        "title": "FINRA API: Specific Terms for Equity Data",
        "path": "https://developer.finra.org/specific-terms-equity-data",
    },
]

_PROFILES = "https://datapackage.org/profiles/2.0"


def data_package(paths: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The descriptor.

    Args:
        paths: by table, its files.
    """
    return {
        "$schema": f"{_PROFILES}/datapackage.json",
        "name": "otc-assets",
        "title": "Off-exchange volume by week, from FINRA's OTC transparency data",
        "sources": _SOURCES,
        "licenses": _LICENSES,
        "resources": [_resource(table, paths[name]) for name, table in exported_tables().items() if name in paths],
    }


def _resource(table: Table, paths: Sequence[str]) -> dict[str, Any]:
    """A table: its files, and its columns with what they mean."""
    in_files = set(columns_of(table))
    return {
        "$schema": f"{_PROFILES}/dataresource.json",
        "name": table.name,
        "type": "table",
        "description": table.description,
        "format": "parquet",
        "mediatype": "application/vnd.apache.parquet",
        "path": list(paths),
        "schema": {
            "$schema": f"{_PROFILES}/tableschema.json",
            "fields": [
                {
                    "name": name,
                    **_type(kind),
                    "description": str(table.note(name)) + ("" if name in in_files else "; in the name of the folder"),
                    **({"constraints": {"required": True}} if name in table.key else {}),
                }
                for name, kind in table.schema.items()
            ],
            "primaryKey": list(table.key),
        },
    }


def _type(kind: pl.DataType) -> dict[str, Any]:
    if isinstance(kind, pl.Decimal):
        return {"type": "number", "parquetType": f"decimal({kind.precision}, {kind.scale})"}
    return {"type": _TYPES[kind.base_type()]}
