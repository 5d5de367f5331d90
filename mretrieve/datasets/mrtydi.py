"""Mr. TyDi v1.1 (Zhang et al., 2021): its official files, on the hub or in archives.

On the hub the corpus is `mrtydi-v1.1-swahili/corpus.jsonl.gz` (`docid`, `title`, `text`), beside
`ir-format-data/topics.test.txt` and `qrels.test.txt`. The archive `mrtydi-v1.1-swahili.tar.gz` holds
`collection/docs.jsonl.gz` (`id` and `contents`, title and text joined by its makers), `topic.test.tsv` and
`qrels.test.txt`.

The baselines join title and text: Anserini's BM25 by a line break, mDPR by an empty line. Ours join them by a
space, which gives BM25 the same words.
"""

import gzip
import hashlib
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mretrieve.cache import make_once
from mretrieve.datasets.catalogue import benchmarks
from mretrieve.datasets.layout import Part, downloads
from mretrieve.errors import InputError

LOOSE = "mrtydi-topics-qrels"
"""A folder of topics and judgements of all languages, as Anserini's tools hold them."""

_BLOCK_BYTES = 1 << 20


def corpus(lang: str) -> Part:
    """The passages of a language."""
    folder = _folder(lang)
    return Part(
        benchmarks()["mrtydi"].repositories["corpus"],
        (f"{folder}/corpus.jsonl.gz",),
        (f"{folder}/collection/docs.jsonl.gz",),
    )


def topics(lang: str, split: str) -> Part:
    """The questions of a split."""
    folder, loose = _folder(lang), f"topics.mrtydi-v1.1-{lang}.{split}.txt.gz"
    return Part(
        benchmarks()["mrtydi"].repositories["topics"],
        (f"{folder}/ir-format-data/topics.{split}.txt",),
        (f"{folder}/topic.{split}.tsv", loose, f"{LOOSE}/{loose}"),
    )


def qrels(lang: str, split: str) -> Part:
    """The judgements of a split."""
    folder, loose = _folder(lang), f"qrels.mrtydi-v1.1-{lang}.{split}.txt"
    return Part(
        benchmarks()["mrtydi"].repositories["topics"],
        (f"{folder}/ir-format-data/qrels.{split}.txt",),
        (f"{folder}/qrels.{split}.txt", loose, f"{LOOSE}/{loose}"),
    )


def archive(lang: str) -> Part:
    """The archive of a language as its makers publish it, with all splits."""
    name = f"{_folder(lang)}.tar.gz"
    return Part(
        benchmarks()["mrtydi"].repositories["archive"], (f"data/{name}",), (name, f"{_folder(lang)}.tgz")
    )


def archives(lang: str, root: Path) -> Sequence[Path]:
    """Archives of a language under a root."""
    part = archive(lang)
    places = [*part.places(root), *(root / name for name in part.others)]
    return [place for place in places if place.is_file()]


def unpack(archive: Path) -> Path:
    """Unpack an archive's data files into the cache, once.

    Returns:
        A root that holds its folder. Nothing but plain files in the archive's one folder is written.

    Raises:
        InputError: the archive is cut off or damaged, or holds no collection.
    """
    status = archive.stat()
    key = f"{archive.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    name = f"{archive.name.partition('.tar')[0]}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def fill(folder: Path) -> None:
        try:
            # Not tarfile's own gzip, which passes over the checksum.
            with gzip.open(archive) as content:
                with tarfile.open(fileobj=content, mode="r|", bufsize=_BLOCK_BYTES) as members:
                    _write_members(members, folder)
                while content.read(_BLOCK_BYTES):
                    pass
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            what = str(error).rstrip(".") or type(error).__name__
            raise InputError(f"{archive} is cut off or damaged ({what}): fetch it again.") from error
        if not any(folder.rglob("*.jsonl.gz")):
            raise InputError(f"{archive} holds no collection/docs.jsonl.gz: it is no archive of Mr. TyDi.")

    return make_once(downloads() / "unpacked" / name, fill)


def _write_members(members: tarfile.TarFile, folder: Path) -> None:
    for member in members:
        path = PurePosixPath(member.name)
        if not member.isreg() or path.is_absolute() or ".." in path.parts or path.suffix == ".py":
            continue
        content = members.extractfile(member)
        assert content is not None
        target = folder.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file, _BLOCK_BYTES)


def _folder(lang: str) -> str:
    return f"mrtydi-v1.1-{benchmarks()['mrtydi'].languages[lang].name}"
