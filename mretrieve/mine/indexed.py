"""The index to mine from, built of the data sets themselves where none is given."""

from collections.abc import Callable, Sequence
from pathlib import Path

from mretrieve import files
from mretrieve.datasets.source import find_beir_file, resolve_address
from mretrieve.errors import InputError
from mretrieve.index.manifest import is_index
from mretrieve.indexing import build_index
from mretrieve.mine.leakage import check_folder
from mretrieve.mine.pool import Pool

OnProgress = Callable[[str, int, int | None], None]


def build_pool(
    folders: Sequence[str | Path],
    path: Path,
    *,
    model: str = "e5-small",
    device: str = "auto",
    on_progress: OnProgress | None = None,
) -> Pool:
    """Open an index of the documents of data sets, after building it if it is not there.

    Args:
        folders: BEIR folders: the one to mine for, and others whose documents may become negatives too.
        path: the index's folder; an index that stands there already is taken as it is, a half-built one is
            finished.
        model: that makes the vectors.
        device: `auto`, `cpu` or `cuda`.
        on_progress: called with a stage, how much of it is done, and of how much.

    Raises:
        InputError: a folder is for evaluation or holds no corpus, two documents have the same id, or the
            index cannot be written or used.
    """
    for folder in folders:
        check_folder(Path(folder), "mined from")
    if not is_index(path):
        with files.storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            source = _joined(folders, path.with_name(f"{path.name}.sources"))
        build_index(source, path, model=model, device=device, on_progress=on_progress)
    return Pool(path, model=model, device=device)


def _joined(folders: Sequence[str | Path], place: Path) -> Path:
    """One folder for them all: of several, a folder of links to their files of documents."""
    corpora = []
    for folder in folders:
        corpus = find_beir_file(resolve_address(folder), "corpus")
        if corpus is None:
            raise InputError(f"{folder} holds no corpus.jsonl or corpus.jsonl.gz to mine negatives from.")
        corpora.append(corpus.resolve())
    if len(corpora) == 1:
        return corpora[0].parent
    files.remove(place)
    place.mkdir()
    for number, corpus in enumerate(corpora):
        suffix = "".join(corpus.suffixes)
        (place / f"{number:03}-{corpus.parent.name}{suffix}").symlink_to(corpus)
    return place
