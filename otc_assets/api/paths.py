"""The names in paths: what is below a symbol and a venue, and the path that was meant by one that does not exist."""

from __future__ import annotations

import difflib

from otc_assets.client.verbs import BY_TABLE, VERBS

#: What is below a symbol and a venue: the verb of each last part of a path.
BELOW_SYMBOL = {"venues": "venue_volume"} | {
    name: name for name in ("summary", "rolling", "concentration", "changes", "revisions")
}
BELOW_VENUE = {"symbols": "venue_volume", "shares": "shares", "rolling": "venue_rolling", "changes": "changes"}

_BELOW = {"symbols": BELOW_SYMBOL, "venues": BELOW_VENUE}
_OTHERS = ("find", "tables")
_MOST = 3


def meant(name: str) -> list[str]:
    """The names that are meant by one that is not that of a path: of the full name of a table, one; or similar ones."""
    written = name.replace("-", "_").lower()
    if exact := BY_TABLE.get(written, written if written in VERBS else None):
        return [exact]
    names = {**{verb: verb for verb in (*VERBS, *_OTHERS)}, **BY_TABLE}
    near = difflib.get_close_matches(written, names, n=_MOST, cutoff=0.6)
    return list(dict.fromkeys(names[each] for each in near))


def suggestions(path: str) -> list[str]:
    """The paths that are meant by one that does not exist, nearest first."""
    first, *parts = path.strip("/").split("/")
    if first != "v1" or not parts or not parts[0]:
        return []
    name, *rest = parts
    if name == "tables" and len(rest) == 1:
        return [f"/v1/tables/{each}" for each in meant(rest[0])]
    if name in _BELOW and len(rest) == 2:
        return [f"/v1/{name}/{rest[0]}/{part}" for part in _BELOW[name]]
    return [f"/v1/{each}" for each in meant(name) if not rest]
