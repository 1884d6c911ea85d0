"""The digests of definitions that the database has applied, ``otc.definition``.

Definitions that follow the code are not in migrations: ``definitions`` and ``timescale`` compare each with its stored
digest whenever ``migrate`` runs, and replace those that differ.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa

_STORED = sa.text("SELECT name, digest FROM otc.definition")
_SAVE = sa.text("""
    INSERT INTO otc.definition (name, digest) VALUES (:name, :digest)
    ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, applied_at = now()
""")


class Digests:
    """The stored digests, read once.

    Args:
        connection: inside the transaction that replaces definitions.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._stored: dict[str, str] = {row[0]: row[1] for row in connection.execute(_STORED)}

    def differs(self, name: str, text: str) -> bool:
        """Whether the database has another text of the definition, or none."""
        return self._stored.get(name) != _digest(text)

    def save(self, name: str, text: str) -> None:
        """Records that the database has this text of the definition."""
        if self.differs(name, text):
            self._stored[name] = _digest(text)
            self._connection.execute(_SAVE, {"name": name, "digest": self._stored[name]})


def _digest(text: str) -> str:
    """Of the words of a definition: comments and line breaks don't count."""
    words = " ".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).split()
    return hashlib.sha256(" ".join(words).encode()).hexdigest()
