"""Retrieval sets on the hub without a loading script: `mteb/MIRACLRetrieval`, `mteb/mrtidy`, BEIR's.

Which file is what follows from its name, as `datasets` names the files that it uploads:

    sw-corpus/dev-00000-of-00001.parquet    corpus of the configuration `sw`
    sw-queries/..., sw-qrels/...            its topics and judgements, one folder or file name per split
    corpus/..., queries/..., qrels/...      the same of a repository without configurations
    corpus.jsonl[.gz], queries.jsonl[.gz], qrels/test.tsv      BEIR's own layout
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from mretrieve.datasets.fields import LANGUAGES, QUERY_IDS, QUERY_TEXTS, to_query
from mretrieve.datasets.files import BadRecord
from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.records import Records, read_jsonl, read_parquet
from mretrieve.errors import InputError
from mretrieve.types import Qrels, Query

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".tsv")

_QRELS_COLUMNS = ("query-id", "corpus-id", "score")
_SHARD = re.compile(r"-\d{5}-of-\d{5}(-[0-9a-f]+)?$|^\d{4,5}$")


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The files of a retrieval set, by part and split; split is empty where the name tells none.

    Attributes:
        corpus: split -> paths of the documents.
        queries: split -> paths of the topics.
        qrels: split -> paths of the judgements.
    """

    corpus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    queries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    qrels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def splits(self) -> list[str]:
        """The judged splits."""
        return [split for split in self.qrels if split]


def classify(paths: Iterable[str], config: str = "") -> HubFiles:
    """Tell the corpus, the topics and the judgements among the files of a repository.

    Args:
        paths: of all files, inside the repository.
        config: configuration, such as a language; empty for a repository without any.
    """
    lead = f"{config}-" if config else ""
    names = {
        f"{lead}corpus": "corpus",
        f"{lead}queries": "queries",
        f"{lead}query": "queries",
        f"{lead}qrels": "qrels",
        **({} if config else {"default": "qrels"}),
    }
    found: dict[str, dict[str, list[str]]] = {"corpus": {}, "queries": {}, "qrels": {}}
    for path in sorted(paths):
        if not path.endswith(SUFFIXES):
            continue
        *folders, file = PurePosixPath(path).parts
        stem = _SHARD.sub("", file.partition(".")[0])
        folders = [folder for folder in folders if folder != "data"]
        if folders and folders[0] in names:
            split = folders[1] if len(folders) > 1 else stem
            part = names[folders[0]]
        elif not folders and stem in names:
            part, split = names[stem], ""
        else:
            continue
        found[part].setdefault("" if split == part else split, []).append(path)
    return HubFiles(**{part: {s: tuple(files) for s, files in by.items()} for part, by in found.items()})


def of_split(files: Mapping[str, tuple[str, ...]], split: str) -> tuple[str, ...]:
    """The files that serve a split: its own, or those of the only split there is."""
    if split in files:
        return files[split]
    if "" in files:
        return files[""]
    return next(iter(files.values())) if len(files) == 1 else ()


def configurations(paths: Iterable[str]) -> list[str]:
    """Names of the configurations that a repository has by its folders."""
    folders = {path.partition("/")[0] for path in paths if "/" in path}
    return sorted(folder.removesuffix("-corpus") for folder in folders if folder.endswith("-corpus"))


def read_topics(files: Iterable[Path]) -> list[Query]:
    """Read topics, also of Parquet.

    Raises:
        InputError: a file is not readable, or a topic has no id or no text; the message tells where.
    """
    queries: list[Query] = []
    for file in files:
        if file.suffix != ".parquet":
            queries += read_queries(file)
            continue
        for row, record in read_parquet(file, columns=(*QUERY_IDS, *QUERY_TEXTS, *LANGUAGES)):
            try:
                if isinstance(record, BadRecord):
                    raise record
                queries.append(to_query(record))
            except BadRecord as fault:
                raise InputError(f"{file}:{row}: {fault}.") from None
    return queries


def read_judgements(files: Iterable[Path]) -> Qrels:
    """Read judgements, also of Parquet and JSON lines.

    Raises:
        InputError: a file is not readable, or a judgement lacks a column; the message tells where.
    """
    qrels: Qrels = {}
    for file in files:
        if file.suffix == ".tsv" or file.name.endswith((".txt", ".tsv.gz")):
            for query_id, judged in read_qrels(file).items():
                qrels.setdefault(query_id, {}).update(judged)
            continue
        for row, record in _rows(file):
            try:
                query_id, doc_id, grade = (record[name] for name in _QRELS_COLUMNS)  # type: ignore[index]
                qrels.setdefault(str(query_id), {})[str(doc_id)] = int(grade)
            except (KeyError, TypeError, ValueError):
                wanted = ", ".join(_QRELS_COLUMNS)
                raise InputError(
                    f"{file}:{row}: a judgement needs {wanted}, as numbers or strings."
                ) from None
    if not qrels:
        raise InputError(f"{', '.join(map(str, files))} holds no judgements.")
    return qrels


def _rows(file: Path) -> Iterator[tuple[int, object]]:
    records: Records = (
        read_parquet(file, columns=_QRELS_COLUMNS) if file.suffix == ".parquet" else read_jsonl(file)
    )
    yield from records
