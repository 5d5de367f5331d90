"""What a repository holds: the names, sizes and checksums of its files, and where each is fetched.

Only plain HTTP: the hub's list of files names a SHA-256 for each large file, and git's SHA-1 for the others.
No loading script is ever run.
"""

import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from mretrieve.datasets.catalogue import Repository
from mretrieve.errors import InputError

HUB = "https://huggingface.co"
GITHUB = "https://raw.githubusercontent.com"
WATERLOO = "https://git.uwaterloo.ca"
TIMEOUT_SECONDS = 30.0

_NEXT_PAGE = re.compile(r'<([^>]+)>;\s*rel="next"')


class UnreachableError(InputError):
    """The hub cannot be reached, or may not be asked."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file that can be fetched.

    Attributes:
        repository: where it is published.
        path: inside the repository.
        size: bytes; None where the host does not tell.
        sha256: hexadecimal, of large files.
        git_sha1: git's name of the content, of the others.
    """

    repository: Repository
    path: str
    size: int | None = None
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def url(self) -> str:
        """Where it is fetched."""
        name, revision = self.repository.name, quote(self.repository.revision, safe="")
        if self.repository.host == "github":
            return f"{GITHUB}/{name}/{revision}/{quote(self.path)}"
        if self.repository.host == "waterloo":
            return f"{WATERLOO}/{name}/-/raw/{revision}/{quote(self.path)}"
        return f"{endpoint()}/datasets/{name}/resolve/{revision}/{quote(self.path)}"


def endpoint() -> str:
    """The hub: HF_ENDPOINT, else the public one."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def list_files(repository: Repository, folder: str = "") -> list[RemoteFile]:
    """List the files of a folder and those below it.

    Args:
        repository: on the hub.
        folder: inside the repository.

    Raises:
        UnreachableError: there is no connection, or HF_HUB_OFFLINE forbids it.
        InputError: there is no such repository or folder, or it may not be read.
    """
    revision = quote(repository.revision, safe="")
    url: str | None = f"{endpoint()}/api/datasets/{repository.name}/tree/{revision}"
    url = f"{url}/{quote(folder)}?recursive=true" if folder else f"{url}?recursive=true"
    found = []
    while url:
        entries, url = _page(url, repository)
        found += [_remote_file(repository, entry) for entry in entries if entry.get("type") == "file"]
    return found


def open_url(url: str, *, first_byte: int = 0) -> Any:
    """Ask for a file, from a byte on.

    Returns:
        The response, to be read and closed.

    Raises:
        UnreachableError: HF_HUB_OFFLINE forbids it.
        OSError: there is no connection, or the host refuses.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise UnreachableError("HF_HUB_OFFLINE is set, so nothing is fetched.")
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"'{url}' is no address of the web: check HF_ENDPOINT.")
    request = urllib.request.Request(url, headers={"User-Agent": "mretrieve"})
    if first_byte:
        request.add_header("Range", f"bytes={first_byte}-")
    if url.startswith(endpoint() + "/") and (token := _token()):
        request.add_unredirected_header("Authorization", f"Bearer {token}")  # for the hub's eyes only
    return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)


def _token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


def _page(url: str, repository: Repository) -> tuple[list[dict[str, Any]], str | None]:
    try:
        with open_url(url) as response:
            entries = json.loads(response.read())
            following = _NEXT_PAGE.search(response.headers.get("Link") or "")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            raise InputError(
                f"The hub has no data set {repository.name} at '{repository.revision}' that you may read "
                f"({error.code}). Check the name, and log in with `hf auth login` if it is a gated one."
            ) from error
        raise UnreachableError(f"The hub answers {error.code} {error.reason}.") from error
    except (OSError, HTTPException, json.JSONDecodeError) as error:
        raise UnreachableError(f"The hub {endpoint()} cannot be reached ({_reason(error)}).") from error
    if not isinstance(entries, list):
        raise UnreachableError(f"{endpoint()} does not answer as the hub does.")
    return entries, following[1] if following else None


def _reason(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def _remote_file(repository: Repository, entry: dict[str, Any]) -> RemoteFile:
    large = entry.get("lfs") or {}
    return RemoteFile(
        repository,
        entry["path"],
        size=large.get("size", entry.get("size")),
        sha256=large.get("oid"),
        git_sha1=None if large else entry.get("oid"),
    )
