"""Fetch collections into the cache, and open them from there."""

from collections.abc import Callable, Iterable
from pathlib import Path

from mretrieve.datasets import hf, mrtydi
from mretrieve.datasets.address import Address, parse_address
from mretrieve.datasets.catalogue import Repository
from mretrieve.datasets.collection import Collection, open_collection, parts_of
from mretrieve.datasets.download import fetch
from mretrieve.datasets.hub import RemoteFile, UnreachableError, list_files
from mretrieve.datasets.layout import MissingFilesError, Part, downloads, where_to_put
from mretrieve.errors import InputError

OnProgress = Callable[[str, int, int | None], None]
"""Told of a stage's name, how many bytes are done, and of how many (None when unknown)."""

STAGE = "download"


def obtain(
    address: str | Address, *, root: Path | None = None, on_progress: OnProgress | None = None
) -> Collection:
    """Open a collection, fetching first what is missing of it.

    Args:
        address: see `mretrieve.datasets.address`.
        root: folder of downloads to read instead; then nothing is fetched.
        on_progress: told of the bytes that come.

    Raises:
        InputError: the address is unknown, the files cannot be fetched (the message says what to put where),
            or they are not what they should be.
    """
    address = parse_address(address) if isinstance(address, str) else address
    if root is not None or address.kind == "beir":
        return open_collection(address, root=root)
    try:
        return open_collection(address)
    except MissingFilesError:
        try:
            _download(address, on_progress=on_progress)
        except UnreachableError as error:
            return open_collection(address, reason=str(error))
    return open_collection(address)


def download(
    address: str | Address, *, archive: bool = False, on_progress: OnProgress | None = None
) -> list[Path]:
    """Fetch the published files of a collection into the cache; what is there already is left alone.

    Args:
        address: of one collection, of one split of it, or of a whole benchmark (`miracl`).
        archive: fetch Mr. TyDi as its makers' archives, which hold all splits, in place of the hub's files.
        on_progress: told of the bytes that come.

    Returns:
        The files, whole and with the right checksums.

    Raises:
        UnreachableError: there is no connection; what has come is kept, and the message says what may be put
            where in place of fetching it.
        InputError: the address is unknown or nothing to fetch, or a file is not what it should be.
    """
    address = parse_address(address, whole=True) if isinstance(address, str) else address
    try:
        return _download(address, archive=archive, on_progress=on_progress)
    except UnreachableError as error:
        if address.benchmark is None:
            raise
        raise UnreachableError(f"{error} Or {where_to_put(_parts(address, archive=archive))}") from error


def _parts(address: Address, *, archive: bool) -> list[Part]:
    """The published files of a benchmark's language, or of all its languages.

    Raises:
        InputError: archives are asked for of what has none.
    """
    benchmark = address.benchmark
    assert benchmark is not None
    if archive and address.kind != "mrtydi":
        raise InputError(f"Only mrtydi is published as archives: fetch {address} without --archive.")
    languages = [address.lang] if address.lang or benchmark.pooled else list(benchmark.languages)
    if archive:
        return [mrtydi.archive(lang) for lang in languages]
    return [part for lang in languages for part in parts_of(Address(address.kind, lang, address.split))]


def _download(
    address: Address, *, archive: bool = False, on_progress: OnProgress | None = None
) -> list[Path]:
    if address.kind == "beir":
        raise InputError(f"{address} is a folder of yours: there is nothing to download.")
    if address.kind == "hf":
        return _fetch_all(_hub_files(address), on_progress)
    wanted = [(part.repository, path) for part in _parts(address, archive=archive) for path in part.paths]
    paths = _fetch_all(_remote_files(wanted), on_progress)
    if archive:
        _check_archives(paths)
    return paths


def _check_archives(paths: Iterable[Path]) -> None:
    """Unpack archives, whose checksums are inside; one that is damaged is not kept."""
    for path in paths:
        try:
            mrtydi.unpack(path)
        except InputError:
            path.unlink()
            raise


def _fetch_all(remotes: list[RemoteFile], on_progress: OnProgress | None) -> list[Path]:
    targets = [(remote, downloads() / remote.repository.name / remote.path) for remote in remotes]
    sizes = [remote.size for remote, target in targets if not target.is_file()]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    done = 0

    def on_bytes(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if on_progress is not None:
            on_progress(STAGE, done, None if total is None else max(total, done))

    return [fetch(remote, target, on_bytes=on_bytes) for remote, target in targets]


def _remote_files(wanted: Iterable[tuple[Repository, str]]) -> list[RemoteFile]:
    """What the hosts know of files; those that are here already are not asked for."""
    listed: dict[tuple[Repository, str], dict[str, RemoteFile]] = {}
    remotes = []
    for repository, path in wanted:
        if repository.host != "hub" or (downloads() / repository.name / path).is_file():
            remotes.append(RemoteFile(repository, path))
            continue
        folder = path.partition("/")[0]
        if (repository, folder) not in listed:
            entries = list_files(repository, folder)
            listed[repository, folder] = {entry.path: entry for entry in entries}
        remote = listed[repository, folder].get(path)
        if remote is None:
            raise InputError(
                f"{repository.name} has no file {path} at {repository.revision}: it has changed."
            )
        remotes.append(remote)
    return remotes


def _hub_files(address: Address) -> list[RemoteFile]:
    """All files of a configuration, as the hub lists them."""
    repository = Repository.parse(address.place)
    entries = {entry.path: entry for entry in list_files(repository)}
    files = hf.classify(entries, address.config)
    for part in ("corpus", "queries", "qrels"):
        if not getattr(files, part):
            names = hf.configurations(entries)
            known = f" Its configurations are: {', '.join(names)}." if names else ""
            raise InputError(
                f"{address} has no {part} in a form that needs no script (Parquet, JSON lines or tsv).{known}"
            )
    every = [
        path
        for part in (files.corpus, files.queries, files.qrels)
        for paths in part.values()
        for path in paths
    ]
    return [entries[path] for path in every]
