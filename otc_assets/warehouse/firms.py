"""Writes the reviewed list of firms and their roles to ``otc.firm``; ``migrate`` does, if the list has changed.

The list is in ``domain.firms``.
"""

from __future__ import annotations

import sqlalchemy as sa

from otc_assets.domain.firms import FIRMS
from otc_assets.warehouse.digests import Digests

_DELETE = sa.text("DELETE FROM otc.firm")
_INSERT = sa.text("""
    INSERT INTO otc.firm (venue_id, name, role, source, reviewed) VALUES (:venue_id, :name, :role, :source, :reviewed)
""")


def reconcile(connection: sa.Connection, digests: Digests) -> None:
    """Replaces the rows of ``otc.firm`` if the list of the code differs from the one that they were written from."""
    text = "\n".join(str(tuple(vars(firm).values())) for firm in FIRMS)
    if digests.differs("firm", text):
        connection.execute(_DELETE)
        connection.execute(_INSERT, [vars(firm) for firm in FIRMS])
        digests.save("firm", text)
