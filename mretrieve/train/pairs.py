"""Pairs of texts to train on, read from retrieval sets in the BEIR layout and from parallel text."""

import json
import lzma
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mretrieve.datasets.heldout import parallel_groups
from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language

_NOT_TEXT = {"id", "doc", "split", "topic"}
"""Keys of a row of parallel text that are no language."""


@dataclass(slots=True)
class Pair:
    """Two texts that belong together.

    `language` is the anchor's, `target` a text whose embedding both should have (English, of the teacher;
    empty where there is none). Pairs of one `group` are right answers for each other's anchors, so they
    must not be each other's negatives.
    """

    anchor: str
    positive: str
    language: str
    positive_language: str
    source: str
    anchor_id: str
    positive_id: str
    group: str
    target: str = ""
    title: str = ""


COLUMNS = tuple(name for name in Pair.__slots__ if name != "title")
"""What of a pair is stored."""


def read_retrieval(folder: Path, splits: Sequence[str], *, address: str) -> Iterator[Pair]:
    """Questions and their relevant passages.

    Args:
        folder: BEIR layout.
        splits: names of `qrels/*.tsv`.
        address: how the pairs call their source.

    Raises:
        InputError: a file is missing or broken, or a judged question or passage is not there.
    """
    files = _split_files(folder, splits)
    queries = {query.query_id: query for query in read_queries(folder)}
    documents = {document.doc_id: document for document in open_source(folder).documents()}
    groups = parallel_groups(files)
    for file in files:
        for query_id, judged in read_qrels(file).items():
            for doc_id, grade in judged.items():
                if grade < 1:
                    continue
                if query_id not in queries or doc_id not in documents:
                    raise InputError(
                        f"{file} judges question '{query_id}' and passage '{doc_id}', but {folder} lacks one."
                    )
                query, document = queries[query_id], documents[doc_id]
                yield Pair(
                    anchor=query.text,
                    positive=document.contents,
                    language=query.lang,
                    positive_language=document.lang,
                    source=address,
                    anchor_id=query_id,
                    positive_id=doc_id,
                    group=f"{address}/{groups.documents[doc_id]}",
                    title=document.title,
                )


def _split_files(folder: Path, splits: Sequence[str]) -> list[Path]:
    files = [folder / "qrels" / f"{split}.tsv" for split in splits]
    for file in files:
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in file.parent.glob("*.tsv"))) or "none"
            raise InputError(f"{folder} has no split '{file.stem}': there is no {file}. It has {known}.")
    return files


def read_parallel_questions(
    folder: Path, splits: Sequence[str], *, address: str, same: str
) -> Iterator[Pair]:
    """Pairs of questions that ask the same in two languages, in both orders of every two.

    Args:
        folder: BEIR layout.
        splits: their questions are taken.
        address: how the pairs call their source.
        same: pattern whose first group is equal in the ids of parallel questions.

    Raises:
        InputError: as `read_retrieval`.
    """
    files = _split_files(folder, splits)
    groups = parallel_groups(files)
    wanted = {query_id for file in files for query_id in read_qrels(file)}
    by_name: dict[str, list[Any]] = defaultdict(list)
    for query in read_queries(folder):
        match = re.match(same, query.query_id)
        if match and query.query_id in wanted:
            by_name[match[1]].append(query)
    for questions in by_name.values():
        english = next((query.text for query in questions if query.lang == "en"), "")
        for one in questions:
            for other in questions:
                if one.lang != other.lang:
                    yield Pair(
                        anchor=one.text,
                        positive=other.text,
                        language=one.lang,
                        positive_language=other.lang,
                        source=address,
                        anchor_id=one.query_id,
                        positive_id=other.query_id,
                        group=f"{address}/{groups.queries[one.query_id]}",
                        target=english,
                    )


@dataclass(frozen=True)
class ParallelText:
    """Rows of sentences that say the same; `rows` holds (id, text by code of the file)."""

    address: str
    rows: Sequence[tuple[str, Mapping[str, str]]]

    def codes(self) -> list[str]:
        """Codes of languages and varieties, in the order of the file."""
        return list(dict.fromkeys(code for _, texts in self.rows for code in texts))


def read_parallel_text(file: Path, *, address: str, keep: Collection[int] | None = None) -> ParallelText:
    """Read a file of one JSON row per sentence with one key per language, xz-compressed or not.

    Args:
        file: `.jsonl` or `.jsonl.xz`.
        address: how pairs call their source.
        keep: numbers of rows, from 0; all without it.

    Raises:
        InputError: the file is missing or broken.
    """
    rows = []
    try:
        with lzma.open(file, "rt", encoding="utf-8") if file.suffix == ".xz" else file.open() as lines:
            for number, line in enumerate(lines):
                if keep is None or number in keep:
                    row = json.loads(line)
                    texts = {code: text for code, text in row.items() if code not in _NOT_TEXT and text}
                    rows.append((str(row["id"]), texts))
    except (OSError, lzma.LZMAError, ValueError, KeyError) as error:
        raise InputError(f"{file} is not whole parallel text, one JSON row a line ({error}).") from error
    if not rows:
        raise InputError(f"{file} holds no rows of parallel text.")
    return ParallelText(address, rows)


def sample_parallel(
    texts: Sequence[ParallelText],
    n_pairs: int,
    *,
    english: float,
    temperature: float,
    without: Collection[str],
    only: Collection[str] | None,
    seed: int,
) -> Iterator[Pair]:
    """Draw pairs of sentences in two languages.

    Every pair has one language drawn by weight: its number of sentences to the power of `temperature`, all
    alike at 0. The other is English with the probability `english`, else drawn the same way. Within a
    language sentences are taken in random order, all before one comes again.

    Args:
        texts: parallel text.
        n_pairs: how many.
        english: share of pairs with English in them, from 0 to 1.
        temperature: 0 for as many pairs of each language, 1 for as its amount of text.
        without: languages to leave out.
        only: the languages to take; all without it.
        seed: of everything drawn.

    Raises:
        InputError: fewer than two languages are left.
    """
    draw = random.Random(seed)
    places = _places(texts, set(without), set(only) if only is not None else None)
    if len(places) < 2:
        raise InputError(f"Parallel text needs two languages at least, but {sorted(places)} are left.")
    weights = {language: len(places[language]) ** temperature for language in sorted(places)}
    decks = {language: _deck(places[language], draw) for language in weights}
    made = 0
    while made < n_pairs:
        language = draw.choices(list(weights), list(weights.values()))[0]
        text, row, code = next(decks[language])
        row_id, sentences = texts[text].rows[row]
        others = _others(sentences, language, places.keys())
        if not others:
            continue
        other = _draw_other(others, weights, english, draw)
        ends = [(language, code), (other, draw.choice(others[other]))]
        draw.shuffle(ends)
        made += 1
        yield _parallel_pair(texts[text].address, row_id, sentences, ends)


def _draw_other(
    others: Mapping[str, Sequence[str]], weights: Mapping[str, float], english: float, draw: random.Random
) -> str:
    """The second language of a pair."""
    if "en" in others and draw.random() < english:
        return "en"
    return draw.choices(list(others), [weights[language] for language in others])[0]


def _parallel_pair(
    address: str, row_id: str, sentences: Mapping[str, str], ends: Sequence[tuple[str, str]]
) -> Pair:
    (first, first_code), (second, second_code) = ends
    return Pair(
        anchor=sentences[first_code],
        positive=sentences[second_code],
        language=first,
        positive_language=second,
        source=address,
        anchor_id=f"{row_id}:{first_code}",
        positive_id=f"{row_id}:{second_code}",
        group=f"{address}/{row_id}",
        target=next((sentences[c] for c in sentences if normalize_language(c) == "en"), ""),
    )


Place = tuple[int, int, str]
"""Which parallel text, which row of it, which code of the row."""


def _places(
    texts: Sequence[ParallelText], without: set[str], only: set[str] | None
) -> dict[str, list[Place]]:
    places: dict[str, list[Place]] = defaultdict(list)
    for number, text in enumerate(texts):
        names = {code: normalize_language(code) for code in text.codes()}
        for row, (_, sentences) in enumerate(text.rows):
            for code in sentences:
                name = names[code]
                if name not in without and (only is None or name in only):
                    places[name].append((number, row, code))
    return dict(places)


def _deck(places: Sequence[Place], draw: random.Random) -> Iterator[Place]:
    """Cards of a shuffled deck, without end."""
    while True:
        cards = list(places)
        draw.shuffle(cards)
        yield from cards


def _others(sentences: Mapping[str, str], language: str, known: Collection[str]) -> dict[str, list[str]]:
    """Codes of a row's other languages, by language."""
    found: dict[str, list[str]] = defaultdict(list)
    for code in sentences:
        name = normalize_language(code)
        if name != language and name in known:
            found[name].append(code)
    return found


def drop_held_out(pairs: Iterable[Pair], held_out: Collection[str]) -> Iterator[Pair]:
    """Pairs whose two languages may be trained on."""
    return (pair for pair in pairs if not {pair.language, pair.positive_language} & set(held_out))
