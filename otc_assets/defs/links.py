"""Links on the pages of assets: the code of the rule, the documentation of the table, the dashboard, the reports.

What an asset is, is in ``assets``; its columns are in ``weekly``.
"""

from typing import Any

from dagster import AssetsDefinition, AssetSpec, CodeReferencesMetadataValue, LocalFileCodeReference, MetadataValue

from otc_assets.domain.checks import EXPORT
from otc_assets.domain.estimates import ESTIMATES
from otc_assets.domain.report import WEEKLY_REPORT
from otc_assets.domain.table import Figure
from otc_assets.domain.tables import TABLES
from otc_assets.domain.weeks import TIERS
from otc_assets.pipeline import datasets
from otc_assets.pipeline.calendar import compute_calendar
from otc_assets.pipeline.capture import capture_publication
from otc_assets.pipeline.export import export_week
from otc_assets.pipeline.gaps import current_gaps
from otc_assets.pipeline.report import make_report
from otc_assets.pipeline.volume import compute_volume
from otc_assets.settings import PROJECT_ROOT, Settings

#: By asset, the function that computes or captures a week. Data sets have one for all, which is not named here.
_CODE: dict[str, Any] = {
    "week_calendar": compute_calendar,
    **{f"publication_{tier.slug}": capture_publication for tier in TIERS},
    "venue_volume": compute_volume,
    "gap_report": current_gaps,
    WEEKLY_REPORT.name: make_report,
    EXPORT: export_week,
    **{table.name: table.formula for table in TABLES.values() if isinstance(table, Figure)},
    **{estimate.name: datasets.ESTIMATES[estimate.name][1] for estimate in ESTIMATES},
}


def with_links(asset: AssetsDefinition, chosen: Settings) -> AssetsDefinition:
    """The asset with links to its code, its documentation, and the pages whose addresses are set."""
    return asset.map_asset_specs(lambda spec: spec.merge_attributes(metadata=_links(spec, chosen)))


def _links(spec: AssetSpec, chosen: Settings) -> dict[str, Any]:
    name = spec.key.to_python_identifier()
    rule = _CODE.get(name, datasets.capture_week)
    # Not by the lines of the source: every process with the definitions would read thirty files.
    code = rule.__code__
    reference = LocalFileCodeReference(file_path=code.co_filename, line_number=code.co_firstlineno, label=rule.__name__)
    links: dict[str, Any] = {
        "dagster/code_references": CodeReferencesMetadataValue(code_references=[reference]),
    }
    if page := _documentation(spec, chosen):
        links["documentation"] = page
    if chosen.grafana_url:
        links["dashboard"] = MetadataValue.url(chosen.grafana_url)
    if chosen.report_url:
        links["reports"] = MetadataValue.url(chosen.report_url)
    return links


def _documentation(spec: AssetSpec, chosen: Settings) -> MetadataValue | None:
    """The page of the asset's table; without an address, its file in a checkout."""
    table = str(spec.metadata.get("dagster/table_name", "")).removeprefix("otc.")
    if chosen.docs_url:
        page = f"data-dictionary.html#{table.replace('_', '-')}" if table in TABLES else "tour.html"
        return MetadataValue.url(f"{chosen.docs_url.rstrip('/')}/{page}")
    file = PROJECT_ROOT / "docs" / ("data-dictionary.md" if table in TABLES else "tour.md")
    return MetadataValue.path(file) if file.exists() else None
