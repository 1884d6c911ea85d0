"""Requests of runs over consecutive weeks, for the sensors. Which weeks they are is decided in the sensors."""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence

from dagster import AssetKey, RunRequest

from otc_assets.defs.partitions import range_tags
from otc_assets.domain.weeks import stretches


def requests_over_weeks(
    of: str, weeks: Mapping[dt.date, str], most: int, assets: Sequence[str] | None = None
) -> list[RunRequest]:
    """A request for each stretch of consecutive weeks, newest first.

    Args:
        of: what is requested, as the run key begins.
        weeks: of each week, what is to be done in words: the same again has the same run key.
        most: the largest number of weeks of a run.
        assets: those of the job to run; None for all.
    """
    requests = []
    for part in stretches(weeks, most):
        digest = hashlib.sha256(" ".join(weeks[week] for week in part).encode()).hexdigest()[:12]
        requests.append(
            RunRequest(
                run_key=f"{of} {part[0]}..{part[-1]} {digest}",
                asset_selection=[AssetKey(name) for name in assets] if assets else None,
                tags=range_tags(part[0], part[-1]),
            )
        )
    return requests[::-1]
