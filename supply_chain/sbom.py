"""``make sbom``: the bill of materials of the package, as CycloneDX JSON.

It has what a server needs (``requirements-server.lock``), with the versions and licences that are installed here. The
image has one of its own, which its build makes of what is in it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from supply_chain.components import ROOT, described, pins


def document() -> dict[str, Any]:
    """The bill of materials.

    Raises:
        SystemExit: the environment does not have the versions of the lock file.
    """
    found = described()
    wanted: dict[str, str] = dict(pins(ROOT / "requirements-server.lock"))
    found["components"] = [one for one in found["components"] if canonicalize_name(one["name"]) in wanted]
    installed: dict[str, str] = {canonicalize_name(one["name"]): one["version"] for one in found["components"]}
    if different := sorted(name for name in wanted if installed.get(name) != wanted[name]):
        raise SystemExit(
            f"sbom: the environment differs from requirements-server.lock: {', '.join(different)}. "
            "Create it again: make clean venv"
        )
    known = {one["bom-ref"] for one in (*found["components"], found["metadata"]["component"])}
    found["dependencies"] = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", ()) if ref in known]}
        for one in found["dependencies"]
        if one["ref"] in known
    ]
    return found


def main(path: Path) -> None:
    """Writes the document to a file."""
    found = document()
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(f"sbom: {len(found['components'])} packages in {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
