"""What training must leave aside although it stands in data for training: material to choose models by.

Three cuts, each the same for whoever asks: a fifth of MLQA's parallel groups, the last rows of NTREX, and
all parallel text of some languages. `benchmarks/quality.py` measures on what is held out here.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.datasets.qrels import read_qrels
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language

MLQA_SPLITS = ("train", "train-xling")
"""Splits of `train/multi-mlqa` that together say which passages and questions are parallel."""

HELD_OUT_ONE_IN = 5
"""One of so many parallel groups of MLQA is held out."""

NTREX_TRAINING_ROWS = range(1797)
"""Rows of NTREX-128 that may be trained on."""

NTREX_TUNING_ROWS = range(1797, 1898)
"""Rows of NTREX-128 to choose models by, in the languages that are trained on."""

NTREX_EVALUATION_ROWS = range(1898, 1997)
"""Rows of NTREX-128 for the final evaluation only; a document starts at the first."""


@dataclass(frozen=True, slots=True)
class ParallelGroups:
    """Which passages and questions of a set say the same in several languages.

    Attributes:
        documents: doc_id -> name of its group.
        queries: query_id -> name of its group.
    """

    documents: Mapping[str, str]
    queries: Mapping[str, str]


def parallel_groups(qrels_files: Iterable[Path]) -> ParallelGroups:
    """Join what is judged together, directly or by way of others.

    Where a question is judged relevant to its passage in every language, the connected components of the
    judgements are the parallel groups: passages that translate each other (or differ in language only) and
    all questions on them.

    Args:
        qrels_files: judgements; a group may reach over several files.

    Returns:
        The groups, each named after its first document, so the names do not depend on the order of lines.

    Raises:
        InputError: as `read_qrels`.
    """
    parents: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while (parent := parents.setdefault(node, node)) != node:
            parents[node] = parents[parent]  # halves the path for the next one
            node = parent
        return node

    for path in qrels_files:
        for query_id, judged in read_qrels(path).items():
            for doc_id, grade in judged.items():
                if grade > 0:
                    # Documents sort before queries and the smaller becomes the root: the group's name.
                    first, second = sorted((root(("document", doc_id)), root(("query", query_id))))
                    parents[second] = first
    names: dict[str, dict[str, str]] = {"document": {}, "query": {}}
    for node in list(parents):
        kind, identifier = node
        names[kind][identifier] = root(node)[1]
    return ParallelGroups(names["document"], names["query"])


def mlqa_groups(folder: Path) -> ParallelGroups:
    """The parallel groups of `train/multi-mlqa`, of passages and questions in up to seven languages.

    Raises:
        InputError: a file of judgements is missing or broken.
    """
    return parallel_groups(folder / "qrels" / f"{split}.tsv" for split in MLQA_SPLITS)


def is_held_out_mlqa(group: str) -> bool:
    """Whether training has to leave a parallel group of MLQA aside, passages and questions alike.

    Args:
        group: name of a group as `mlqa_groups` gives it.
    """
    digest = hashlib.sha256(f"mlqa held out {group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


def held_out_mlqa(folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """What of `train/multi-mlqa` training has to leave aside.

    Args:
        folder: the set's folder.

    Returns:
        Ids of the documents and ids of the queries of all groups that are held out.

    Raises:
        InputError: a file of judgements is missing or broken.
    """
    groups = mlqa_groups(folder)
    documents, queries = (
        frozenset(one for one, group in names.items() if is_held_out_mlqa(group))
        for names in (groups.documents, groups.queries)
    )
    return documents, queries


def ntrex_row(row_id: str) -> int:
    """Number of a row of NTREX-128 from its id: `ntrex-0017` is 17.

    Raises:
        InputError: the id has another form.
    """
    number = row_id.removeprefix("ntrex-")
    if number == row_id or not number.isdecimal():
        raise InputError(f"'{row_id}' is no row of NTREX-128: its ids look like ntrex-0017.")
    return int(number)


def read_held_out_languages(path: Path) -> tuple[str, ...]:
    """Read which languages training has to leave out of all parallel text.

    Args:
        path: one code a line, as NTREX-128 writes it; `#` starts a comment.

    Returns:
        The codes in the order of the file.

    Raises:
        InputError: the file is missing, not readable or names no language, or a code is unknown or repeated;
            the message tells the line.
    """
    codes: dict[str, int] = {}
    for number, line in read_lines(path):
        if isinstance(line, BadRecord):
            raise InputError(f"{path}:{number}: {line}.")
        code = line.partition("#")[0].strip()
        if not code:
            continue
        try:
            normalize_language(code)
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from None
        first = codes.setdefault(code, number)
        if first != number:
            raise InputError(f"{path}:{number}: '{code}' stands in line {first} already.")
    if not codes:
        raise InputError(f"{path} names no language: give one code a line, such as bul.")
    return tuple(codes)


def is_held_out_language(code: str, held_out: Collection[str]) -> bool:
    """Whether a column of parallel text is in a language that is held out, in any script or variety.

    Args:
        code: a code of NTREX-128 (`ckb-Arab`), FLORES or SIB-200 (`bul_Cyrl`), or any other that is known.
        held_out: codes as `read_held_out_languages` gives them.

    Raises:
        InputError: a code is unknown.
    """
    return normalize_language(code) in {normalize_language(other) for other in held_out}
