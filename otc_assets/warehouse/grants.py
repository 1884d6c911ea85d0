"""Grants on relations and functions that are dropped and created again: they stay as an operator set them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from otc_assets.warehouse.sql import statement


@contextmanager
def kept_grants(connection: sa.Connection, names: Sequence[str]) -> Iterator[None]:
    """Gives relations and functions of schema ``otc`` the grants again that they had before the block.

    Args:
        connection: inside the transaction that replaces them.
        names: theirs; those that do not exist before the block get no grants.
    """
    grants = connection.execute(statement("grants"), {"names": list(names)}).scalars().all()
    yield
    for grant in grants:
        connection.exec_driver_sql(grant.replace("%", "%%"))
