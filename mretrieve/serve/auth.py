"""Who may call: keys, what each may do, and how often.

A key file has one key a line; behind it may stand `rpm=N`, requests per minute, and `only=NAME,...`, the
parts of the interface that it opens (`embeddings`, `rerank`, `search`, `indexes`, `models`, `metrics`):

    sk-4f9c1d...    rpm=600
    sk-77ab02...    only=search,indexes
    # a comment

Only the keys' digests are kept in memory.
"""

import hashlib
import hmac
import ipaddress
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mretrieve.errors import InputError
from mretrieve.serve.errors import ApiError

SHORTEST_KEY = 16
"""Characters; shorter ones can be guessed."""

SCOPES = ("embeddings", "indexes", "metrics", "models", "rerank", "search")
_CALLERS = 10_000  # whose rates are remembered, those heard last
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key: its SHA-256, and what it may do.

    `scopes` is None where it opens everything, `requests_per_minute` None where the server's limit holds.
    """

    digest: bytes
    requests_per_minute: int | None = None
    scopes: frozenset[str] | None = None


def read_keys(path: Path) -> list[ApiKey]:
    """Read a key file.

    Raises:
        InputError: it cannot be read, holds no key, or a line is not as it should be. No message holds a key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"The key file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The key file {path} is not UTF-8 text.") from error
    keys = [
        _read_key(line.split(), f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not keys:
        raise InputError(f"The key file {path} holds no key: write one on each line.")
    if len({key.digest for key in keys}) < len(keys):
        raise InputError(f"The key file {path} holds the same key twice: leave one out.")
    return keys


def _read_key(words: Sequence[str], place: str) -> ApiKey:
    secret, *options = words
    if len(secret) < SHORTEST_KEY or not (secret.isascii() and secret.isprintable()):
        raise InputError(
            f"{place}: a key has at least {SHORTEST_KEY} characters, of ASCII only. "
            "`openssl rand -hex 24` makes a good one."
        )
    rpm: int | None = None
    scopes: frozenset[str] | None = None
    for option in options:
        name, _, value = option.partition("=")
        if name == "rpm" and value.isdecimal() and int(value) > 0:
            rpm = int(value)
        elif name == "only" and set(value.split(",")) <= set(SCOPES):
            scopes = frozenset(value.split(","))
        else:
            raise InputError(
                f"{place}: behind a key may stand rpm=N and only=NAME,..., with NAME of: {', '.join(SCOPES)}."
            )
    return ApiKey(_digest(secret), rpm, scopes)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


class Gatekeeper:
    """Lets requests in or not.

    Args:
        keys: those that open; empty lets everybody in.
        requests_per_minute: of a key without a limit of its own, or of an address where there are no keys;
            None for no limit.
        clock: seconds, ever growing.
    """

    def __init__(
        self,
        keys: Sequence[ApiKey] = (),
        *,
        requests_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = tuple(keys)
        self._requests_per_minute = requests_per_minute
        self._clock = clock
        self._buckets: OrderedDict[bytes, _Bucket] = OrderedDict()

    @property
    def needs_key(self) -> bool:
        """Whether only those with a key get in."""
        return bool(self._keys)

    def admit(self, authorization: str | None, address: str, scope: str) -> None:
        """Raise unless a request may pass.

        Args:
            authorization: the header of that name.
            address: where it comes from.
            scope: the part of the interface that it wants.

        Raises:
            ApiError: no key or a wrong one (401), one that does not open this (403), or too many requests
                (429).
        """
        if not self._keys:
            self._spend(address.encode(), self._requests_per_minute)
            return
        key = self._find(authorization)
        if key.scopes is not None and scope not in key.scopes:
            raise ApiError(403, f"This key does not open '{scope}'.")
        self._spend(key.digest, key.requests_per_minute or self._requests_per_minute)

    def _find(self, authorization: str | None) -> ApiKey:
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise ApiError(401, "Give an API key, in the header `Authorization: Bearer KEY`.")
        digest, found = _digest(secret.strip()), None
        for key in self._keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise ApiError(401, "The API key is not one of this server's.")
        return found

    def _spend(self, caller: bytes, requests_per_minute: int | None) -> None:
        if requests_per_minute is None:
            return
        bucket = self._buckets.pop(caller, None) or _Bucket(requests_per_minute, self._clock())
        self._buckets[caller] = bucket
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        seconds = bucket.spend(requests_per_minute, self._clock())
        if seconds:
            raise ApiError(
                429,
                f"Too many requests: {requests_per_minute} a minute are allowed.",
                retry_after=math.ceil(seconds),
            )


class _Bucket:
    """Holds a minute's requests and is filled again steadily."""

    def __init__(self, size: int, now: float) -> None:
        self._left, self._seen = float(size), now

    def spend(self, size: int, now: float) -> float:
        """Take one request: 0, or the seconds until there is one."""
        self._left = min(size, self._left + (now - self._seen) * size / _MINUTE)
        self._seen = now
        if self._left < 1:
            return (1 - self._left) * _MINUTE / size
        self._left -= 1
        return 0.0


def check_exposure(host: str, *, has_keys: bool, insecure: bool) -> None:
    """Refuse to serve strangers without keys.

    Args:
        host: address or name to listen on.
        has_keys: whether a key is needed.
        insecure: whether the user says that it is meant so.

    Raises:
        InputError: others than this machine could call, or the host is unknown.
    """
    if has_keys or insecure or is_loopback(host):
        return
    raise InputError(
        f"{host} can be reached from other machines, so anybody could use this server. Give keys with "
        "--api-key-file, listen on 127.0.0.1, or say --insecure if that is what you want."
    )


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone.

    Raises:
        InputError: the name is unknown.
    """
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host or "0.0.0.0", None)}
    except (OSError, UnicodeError) as error:
        raise InputError(f"Cannot listen on '{host}': no such address or name.") from error
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses)
