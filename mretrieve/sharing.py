"""Publish an index on a hub, and fetch one from there, with every byte compared with its checksum.

An index becomes a data set repository, in one commit: readers see the old index or the new one. What comes
back is pinned to one commit, compared with the hub's checksums and then with those of the index's own
manifest, and takes its place in one act.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mretrieve import files
from mretrieve.datasets.catalogue import Repository
from mretrieve.datasets.download import fetch
from mretrieve.datasets.hub import RemoteFile, UnreachableError, endpoint, list_files
from mretrieve.errors import InputError
from mretrieve.index import swap
from mretrieve.index.manifest import FORMAT, MANIFEST, Manifest, read_manifest
from mretrieve.index.open import verify

OnProgress = Callable[[str, int, int | None], None]
"""Told of a stage's name, how many bytes are done, and of how many (None when unknown)."""

_ADDRESS = re.compile(r"hf:(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_HUBS_OWN = {".gitattributes", "README.md", "LICENSE", ".gitignore"}
"""Files of a repository that are no part of an index, and are left as they are."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What was published: where, as which commit, and how many files and bytes the index has."""

    url: str
    commit: str
    n_files: int
    n_bytes: int


def parse_hub_address(address: str) -> Repository:
    """Read `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.

    Raises:
        InputError: it is none.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(f"'{address}' names no repository. Write hf:OWNER/NAME or hf:OWNER/NAME@REVISION.")
    return Repository(match["name"], match["revision"] or "main")


def push_index(
    path: Path, address: str, *, private: bool = False, on_progress: OnProgress | None = None
) -> Pushed:
    """Publish an index, or replace the one that was published under that name.

    Files that are on the hub already are not sent again, so a push that was cut off goes on.

    Args:
        path: folder of the index; each of its files is compared with its checksum first.
        address: `hf:OWNER/NAME[@BRANCH]`; made as a data set repository where there is none.
        private: whether a new repository may be read by its owner alone.
        on_progress: told of the bytes that are there.

    Raises:
        InputError: the index is damaged, the repository holds something else or may not be written, or the
            hub refuses.
        UnreachableError: there is no connection.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    repository = parse_hub_address(address)
    manifest = verify(path)
    api = HfApi(endpoint=endpoint())
    tell = on_progress or _silent
    with _hub_errors(repository):
        url = api.create_repo(repository.name, repo_type="dataset", private=private, exist_ok=True)
        stale = _no_longer_there(repository, manifest)
        sent = 0
        additions = []
        for name in [*manifest.files, MANIFEST]:
            addition = CommitOperationAdd(path_in_repo=name, path_or_fileobj=path / name)
            api.preupload_lfs_files(
                repository.name, [addition], repo_type="dataset", revision=repository.revision
            )
            additions.append(addition)
            sent += (path / name).stat().st_size
            tell("push", sent, manifest.n_bytes + (path / MANIFEST).stat().st_size)
        commit = api.create_commit(
            repository.name,
            [*additions, *(CommitOperationDelete(path_in_repo=name) for name in stale)],
            commit_message=f"Index of {manifest.documents:,} documents",
            repo_type="dataset",
            revision=repository.revision,
        )
    return Pushed(str(url), str(commit.oid), len(additions), sent)


def pull_index(
    address: str, path: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
) -> Manifest:
    """Fetch a published index; called again in the same way, a fetch that was cut off goes on.

    Args:
        address: `hf:OWNER/NAME[@REVISION]`.
        path: the folder to make.
        overwrite: replace an index that stands at `path`, in one act when the new one is whole.
        on_progress: told of the bytes that come.

    Returns:
        The manifest.

    Raises:
        InputError: there is no such index, `path` may not be replaced, or bytes are not what they should be.
        UnreachableError: there is no connection; what has come is kept.
    """
    from huggingface_hub import HfApi

    repository = parse_hub_address(address)
    target = swap.plain_name(path)
    swap.check_target(target, overwrite=overwrite)
    with _hub_errors(repository):
        info = HfApi(endpoint=endpoint()).dataset_info(repository.name, revision=repository.revision)
    pinned = Repository(repository.name, str(info.sha))
    there = {remote.path: remote for remote in list_files(pinned)}
    if MANIFEST not in there:
        raise InputError(f"{address} is no index: it has no {MANIFEST}.")
    with files.storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(target):
            swap.recover(target)
            swap.check_target(target, overwrite=overwrite)
            coming = _coming_folder(target, pinned.revision)
            manifest = _fetch_all(there, coming, address, on_progress or _silent)
            files.sync_tree(coming)
            swap.place(coming, target, overwrite=overwrite)
    return manifest


def _no_longer_there(repository: Repository, manifest: Manifest) -> list[str]:
    """Files of the published index that the new one has not.

    Raises:
        InputError: the repository holds something that is no index of ours.
    """
    there = {remote.path for remote in list_files(repository)} - _HUBS_OWN
    if there and MANIFEST not in there:
        raise InputError(
            f"{repository.name} holds {min(there)}, but no index: it is left alone. Choose another name."
        )
    return sorted(there - manifest.files.keys() - {MANIFEST})


def _coming_folder(target: Path, commit: str) -> Path:
    """Where the files of one commit gather; those of other commits, left there by a cut fetch, go."""
    prefix = f".{target.name}.pulling-"
    mine = target.with_name(prefix + commit[:12])
    for folder in target.absolute().parent.iterdir():
        if folder.name.startswith(prefix) and folder.name != mine.name:
            files.remove(folder)
    files.make_folder(mine)
    return mine


def _fetch_all(there: dict[str, RemoteFile], folder: Path, address: str, tell: OnProgress) -> Manifest:
    """Fetch the manifest and all that it lists, and compare each file with it."""
    fetch(there[MANIFEST], folder / MANIFEST)
    manifest = read_manifest(folder)
    if absent := sorted(manifest.files.keys() - there.keys()):
        raise InputError(f"{address} is not whole: {absent[0]} is missing there. Push the index again.")
    done = 0

    def on_bytes(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        tell("pull", done, max(done, manifest.n_bytes))

    for name, entry in manifest.files.items():
        file = folder / name
        if file.is_file():
            on_bytes(file.stat().st_size)
        fetch(there[name], file, on_bytes=on_bytes)
        if file.stat().st_size != entry.n_bytes or files.sha256_of(file) != entry.sha256:
            file.unlink()
            raise InputError(
                f"{name} of {address} is not the file that its {FORMAT} manifest names: nothing was "
                "changed here. Push the index again from where it was built."
            )
    return manifest


@contextmanager
def _hub_errors(repository: Repository) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence, and have it show no bars of its own."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    except InputError:
        raise
    except OfflineModeIsEnabled as error:
        raise UnreachableError("HF_HUB_OFFLINE is set, so nothing is sent or fetched.") from error
    except Exception as error:
        cause = _cause(error)
        if isinstance(cause, HfHubHTTPError):
            raise InputError(_refusal(cause, repository)) from error
        # It has changed its HTTP library before, so that is told by its name only.
        if isinstance(cause, ConnectionError | TimeoutError) or type(cause).__module__.startswith("httpx"):
            raise UnreachableError(
                f"The hub {endpoint()} cannot be reached ({_first_line(cause)}). Run the same command again."
            ) from error
        raise
    finally:
        if bars:
            enable_progress_bars()


def _cause(error: BaseException) -> BaseException:
    """What an upload failed of, which is told as `Error while uploading` alone."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _refusal(error: Any, repository: Repository) -> str:
    status = error.response.status_code if error.response is not None else 0
    if status in (401, 403, 404):
        return (
            f"The hub {endpoint()} has no data set {repository.name} that you may use so ({status}). "
            "Check the name, and log in with `hf auth login`."
        )
    return f"The hub {endpoint()} refuses: {_first_line(error)} Run the same command again."


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _silent(stage: str, done: int, total: int | None) -> None:
    pass
