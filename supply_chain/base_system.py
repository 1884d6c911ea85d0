"""Adds an image's Debian packages and its Python to a bill of materials. The build of the image runs this.

The Python of the base runs it, so it imports the standard library only. The bill of Python packages is cyclonedx-bom's.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

_LIST = ["dpkg-query", "--show", "--showformat=${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\n"]


def debian_packages(listed: str, distribution: str) -> list[dict[str, Any]]:
    """The installed packages, as CycloneDX has them.

    Args:
        listed: a line per package: name, version, architecture and status, between tabs.
        distribution: its name as in /etc/os-release, such as ``debian``.
    """
    found = []
    for line in sorted(listed.splitlines()):
        name, version, architecture, status = line.split("\t")
        if status == "installed":
            purl = f"pkg:deb/{distribution}/{quote(name, safe='')}@{quote(version, safe='')}?arch={architecture}"
            found.append({"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl})
    return found


def python() -> dict[str, Any]:
    """The Python that runs this, which in the official images of Python is no package of Debian's."""
    version = platform.python_version()
    purl = f"pkg:generic/python@{version}"
    return {"type": "application", "name": "python", "version": version, "purl": purl, "bom-ref": purl}


def main(path: Path) -> None:
    """Adds both to the document in a file.

    A base without dpkg has packages of another kind. The document then says nothing of them, and the build says so.
    """
    document = json.loads(path.read_text())
    added = [python()]
    if shutil.which(_LIST[0]):
        listed = subprocess.run(_LIST, capture_output=True, text=True, check=True).stdout  # noqa: S603 - constant
        added += debian_packages(listed, platform.freedesktop_os_release()["ID"])
    else:
        print("sbom: the base has no dpkg, so its packages are not in the bill of materials", file=sys.stderr)
    document["components"] += added
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    print(f"sbom: {len(document['components'])} packages in {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
