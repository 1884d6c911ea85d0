"""The image as it is built and run here: by buildah, without a registry and without a container engine.

The base image is made with debootstrap from the Debian mirror of this machine, under the name that the Dockerfile has.
The packages are downloaded as this machine's pip is configured, and mounted into the build. A container is a process on
the mounted image, read-only, in namespaces of its own, with the account and the variables that the image says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from support.tools import missing

from otc_assets.settings import PROJECT_ROOT

DOCKERFILE = PROJECT_ROOT / "Dockerfile"
#: What an official image of Python has beyond Debian's essential packages.
_PACKAGES = "ca-certificates,python3-minimal,python3-venv"
#: Where the image's name for OTC_HOME and /tmp are: the only writable folders of a container.
HOME = "/var/lib/otc-assets"
#: The account of the platform in the image.
ACCOUNT = 10001


def base_name() -> str:
    """The name of the base image in the Dockerfile."""
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found
    return found[1]


def debian() -> tuple[str, str]:
    """The release and the mirror of this machine's package manager."""
    folder = Path("/etc/apt/sources.list.d")
    for file in [*folder.glob("*.sources"), *folder.glob("*.list"), Path("/etc/apt/sources.list")]:
        text = file.read_text() if file.exists() else ""
        if found := re.search(r"^deb +(?:\[[^]]*\] +)?(\S+/debian/?) +(\S+) ", text, re.MULTILINE):
            return found[2], found[1]
        mirror = re.search(r"^URIs: *(\S+/debian/?)$", text, re.MULTILINE)
        suite = re.search(r"^Suites: *(\S+)", text, re.MULTILINE)
        if mirror and suite:
            return suite[1], mirror[1]
    return missing("this machine has no Debian mirror in /etc/apt", "run the tests of the image on Debian 12 or later")


def run(*words: str | Path, seconds: float = 600, **options: Any) -> str:
    """Runs a program to its end, and returns what it prints; what it prints is also the message of a failure."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"{words[0]} failed: {done.stdout[-4000:]}"
    return done.stdout


#: Every process that is started this way ends with this one, even if this one is killed, and its mounts with it.
ISOLATED = (
    *("setpriv", "--pdeathsig", "KILL"),
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


def require_tools() -> None:
    """Skips the tests, or fails them if OTC_REQUIRE_ALL_TOOLS is set, where an image can't be built and run."""
    for tool in ("buildah", "debootstrap"):
        if shutil.which(tool) is None:
            missing(f"{tool} is not installed", f"install it (Debian: apt-get install {tool})")
    require_namespaces()


def require_namespaces() -> None:
    """Skips the tests, or fails them if OTC_REQUIRE_ALL_TOOLS is set, where containers can't be started."""
    if subprocess.run([*ISOLATED, "--net", "true"], capture_output=True, check=False).returncode:
        missing("this account may not create namespaces", "run the tests as root, where it may use unshare and mount")


@dataclass
class Builder:
    """Buildah with a storage of its own.

    Args:
        folder: an empty folder, for everything that is made.
    """

    folder: Path
    _wheels: Path = field(init=False)

    def __post_init__(self) -> None:
        self._wheels = self.folder / "wheels"

    def buildah(self, *words: str | Path, cwd: Path = PROJECT_ROOT) -> str:
        """Runs a command of buildah."""
        storage = ("--root", self.folder / "storage", "--runroot", self.folder / "run", "--storage-driver", "vfs")
        return run("buildah", *storage, *words, cwd=cwd).strip()

    def make_base(self) -> None:
        """Makes the base image."""
        suite, mirror = debian()
        root = self.folder / "base"
        options = ("--variant=minbase", f"--include={_PACKAGES}")
        run(*ISOLATED, "debootstrap", *options, suite, root, mirror)
        shutil.rmtree(root / "var/cache/apt/archives")
        container = self.buildah("from", "scratch").splitlines()[-1]
        self.buildah("add", "--quiet", container, root, "/")
        self.buildah("commit", "--quiet", "--rm", container, base_name())
        shutil.rmtree(root)

    def download(self) -> None:
        """Downloads what the lock files of the image name, for the Python of the base image."""
        version = self._in_base("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
        for lock in ("requirements-build.lock", "requirements-server.lock"):
            run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
                *("--only-binary=:all:", "--python-version", version, "--requirement", PROJECT_ROOT / lock),
                *("--dest", self._wheels),
            )

    def _in_base(self, *words: str) -> str:
        container = self.buildah("from", "--pull-never", base_name())
        printed = self.buildah("run", "--isolation", "chroot", container, "--", *words)
        self.buildah("rm", container)
        return printed

    def build(self, tag: str) -> None:
        """Builds the Dockerfile. pip finds the packages by a configuration that is a secret of the build."""
        config = self.folder / "pip.conf"
        config.write_text("[global]\nno-index = true\nfind-links = /mnt\n")
        self.buildah(
            *("bud", "--isolation", "chroot", "--layers=false", "--pull-never", "--tag", tag),
            *("--secret", f"id=pip.conf,src={config}", "--volume", f"{self._wheels}:/mnt:ro", "."),
        )

    def config(self, tag: str) -> dict[str, Any]:
        """The configuration of an image: its account, variables, entry point and labels."""
        return json.loads(self.buildah("inspect", "--type", "image", tag))["OCIv1"]["config"]  # type: ignore[no-any-return]

    def mount(self, tag: str) -> Path:
        """The files of an image, in a folder."""
        return Path(self.buildah("mount", self.buildah("from", "--pull-never", tag)))

    def close(self) -> None:
        """Deletes containers and images with their files."""
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)


#: Mounts the image read-only, with a volume and a /tmp, and becomes the account of the image without any capability.
_START = """
set -e
mount --bind "$IMAGE" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
[ -z "$VOLUME" ] || mount --bind "$VOLUME" "$ROOT$HOME_FOLDER"
exec env -i $VARIABLES chroot "$ROOT" /usr/bin/setpriv --reuid="$ACCOUNT" --regid="$GROUP" --clear-groups \
    --no-new-privs --inh-caps=-all --bounding-set=-all /usr/bin/env --chdir="$FOLDER" "$@"
"""


class Image:
    """The built image.

    Args:
        files: where its files are.
        config: its configuration.
        folder: a folder for the mount points and the output of containers.
    """

    def __init__(self, files: Path, config: dict[str, Any], folder: Path) -> None:
        self.files = files
        self.config = config
        self._folder = folder
        self._root = folder / "root"
        self._root.mkdir()

    def start(
        self, *words: str, volume: Path | None = None, entrypoint: bool = True, settings: dict[str, str] | None = None
    ) -> Container:
        """Starts a container.

        Args:
            words: the arguments of the image's entry point.
            volume: the folder that is mounted as OTC_HOME; None for none.
            entrypoint: start the entry point; otherwise, ``words`` are the whole command.
            settings: further environment variables, without spaces.
        """
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in (settings or {}).items())]
        account, group = self.config["User"].split(":")
        given = {
            "IMAGE": str(self.files),
            "ROOT": str(self._root),
            "VOLUME": str(volume or ""),
            "HOME_FOLDER": HOME,
            "VARIABLES": " ".join(variables),
            "ACCOUNT": account,
            "GROUP": group,
            "FOLDER": self.config["WorkingDir"],
            "PATH": os.environ["PATH"],
        }
        command = [*(self.config["Entrypoint"] if entrypoint else ()), *words]
        return Container([*ISOLATED, "sh", "-c", _START, "sh", *command], given, self._folder)

    def run(self, *words: str, seconds: float = 300, **options: Any) -> tuple[int, str]:
        """Runs a container to its end: (exit code, what it printed)."""
        container = self.start(*words, **options)
        try:
            return container.process.wait(timeout=seconds), container.text
        finally:
            container.stop()


class Container:
    """A running container.

    Args:
        command: what starts it.
        env: the variables of that command.
        folder: a folder for its output.
    """

    def __init__(self, command: list[str], env: dict[str, str], folder: Path) -> None:
        output, name = tempfile.mkstemp(prefix="output-", dir=folder)
        self._output = Path(name)
        with open(output, "wb") as stream:
            self.process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self._output.read_text()

    def processes(self) -> list[psutil.Process]:
        """Its processes; the first two set the namespaces up, and are outside."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> None:
        """Ends it with all its processes: they are in the namespace of its first one."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=60)


@dataclass
class Platform:
    """The platform, started from the image."""

    url: str
    volume: Path
    week: str
    webserver: str
    metrics: str
    containers: dict[str, Container]

    @property
    def running(self) -> list[Container]:
        """All containers."""
        return list(self.containers.values())
