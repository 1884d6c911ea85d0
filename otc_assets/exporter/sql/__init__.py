"""Named SQL statements of the exporter, one per file, and nothing else.

They are as those in ``warehouse.sql``, but the exporter has its own connection, of psycopg: values are bound as
``%(newest)s``, and a ``%`` in a comment would be an error.
"""

from __future__ import annotations

from functools import partial

from otc_assets.warehouse import sql

text = partial(sql.text, package=__name__)
