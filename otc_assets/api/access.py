"""Who may read, and how often: API keys from a file, and a rate limit for each key or address.

Keys are random, so that their SHA-256 can't be guessed; a slow hash, as of passwords, would add nothing to that.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import math
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from otc_assets.errors import OtcError
from otc_assets.whole_files import read_small

_LINE = re.compile(r"(?P<name>[\w.@-]{1,100})\s+sha256:(?P<digest>[0-9a-f]{64})")
_CHECK_SECONDS = 1.0
#: Keys and addresses that are remembered at a time. Those that are forgotten start with a full allowance.
_REMEMBERED = 10_000

log = logging.getLogger(__name__)


class InvalidKeys(OtcError):
    """The file of the API keys can't be read, or has a line that is none."""


def new_key(name: str) -> tuple[str, str]:
    """A new API key, and the line of the file that admits it."""
    if not re.fullmatch(r"[\w.@-]{1,100}", name):
        raise InvalidKeys(f"{name!r} is no name of a key", remedy="Use letters, digits, and any of . _ @ -")
    key = f"otc_{secrets.token_urlsafe(32)}"
    return key, f"{name} sha256:{_digest(key)}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class Keys:
    """The keys of a file, one per line: a name, and ``sha256:`` with the digest. The file is read again if it changes.

    It has to be right at first. Later, only the keys that are in it at the time are admitted: a line of another form is
    none, and without the file there are none. The log has what is wrong.

    Raises:
        InvalidKeys: the file can't be read, has a line of another form, or no key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._stamp = self._stat()
        self._names, self._wrong = self._read()
        if self._wrong:
            raise InvalidKeys(self._wrong, remedy="'otc-assets serve --new-key NAME' prints a line of the file.")

    def name_of(self, key: str) -> str | None:
        """The name of a key; None if the file does not have it. Takes as long for any key."""
        self._refresh()
        found, digest = None, _digest(key)
        for known, name in self._names.items():
            if hmac.compare_digest(known, digest):
                found = name
        return found

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked < _CHECK_SECONDS:
                return
            self._looked = time.monotonic()
            stamp = self._stat()
            if stamp is not None and stamp == self._stamp:
                return
            try:
                self._names, wrong = self._read()
            except InvalidKeys as error:
                # Without a stamp it is read again at the next look, because this may last for a moment only.
                self._names, wrong, stamp = {}, str(error), None
            if wrong and wrong != self._wrong:
                log.warning("%s", wrong)
            self._stamp, self._wrong = stamp, wrong

    def _stat(self) -> tuple[int, ...] | None:
        """What changes with the file, its permissions included; None if there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino

    def _read(self) -> tuple[dict[str, str], str]:
        """The names of the lines by their digests, so that a name may have several keys; and what is wrong, or ''."""
        try:
            lines = read_small(self._path).splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InvalidKeys(f"{self._path}: {reason}", remedy="Set OTC_API_KEYS to a file of keys.") from None
        names: dict[str, str] = {}
        wrong: list[str] = []
        for number, line in enumerate(lines, start=1):
            if match := _LINE.fullmatch(line.strip()):
                names[match["digest"]] = match["name"]
            elif line.strip() and not line.lstrip().startswith("#"):
                wrong.append(str(number))
        if wrong:
            return names, f"{self._path}, line {', '.join(wrong)}: this is not a name and the digest of a key"
        return names, "" if names else f"{self._path} has no key"


class Allowance(NamedTuple):
    """What a caller has left.

    Attributes:
        allowed: whether this request is.
        remaining: requests that may follow at once.
        seconds: until one more may follow, if none is left; otherwise until all may.
    """

    allowed: bool
    remaining: int
    seconds: int


class Limiter:
    """A rate limit for each caller: an allowance of requests that is refilled steadily.

    Args:
        per_minute: the requests of a minute, which may also be sent at once; 0 for no limit.
        clock: seconds that only increase.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> Allowance:
        """Takes one request from a caller's allowance. Called in one thread only."""
        now, rate = self._clock(), self.per_minute / 60
        left, since = self._left.pop(caller, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - since) * rate)
        allowed = left >= 1 - 1e-6  # seconds are rounded
        left -= allowed
        self._left[caller] = left, now
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        missing = self.per_minute - left if left >= 1 else 1 - left
        return Allowance(allowed, int(left), max(1, math.ceil(missing / rate)))


def caller_at(address: str) -> str:
    """The caller of an address: of IPv6 the network, because one machine has many addresses in it."""
    with suppress(ValueError):
        found = ipaddress.ip_address(address)
        if isinstance(found, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((found, 64), strict=False))
    return address
