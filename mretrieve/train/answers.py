"""Questions with the sentences that answer them: passages cut, and the sentence chosen by a teacher."""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.datasets.heldout import MLQA_SPLITS, held_out_mlqa
from mretrieve.datasets.source import open_source
from mretrieve.mine.answers import choose_answers
from mretrieve.mine.sentences import split_sentences
from mretrieve.train.objectives import Role
from mretrieve.train.pairs import Pair, read_retrieval
from mretrieve.types import Document, Qrels, Query

Embed = Callable[[Role, Sequence[str]], NDArray[np.float32]]
"""Texts of one role to (n, dim) float32 of unit length."""

SAME = r"^(?:[a-z]{2}-)?(.+?)(?:-pivot)?$"
"""What is equal in the ids of parallel questions: MLQA's `de-0123`, AfriQA's `afriqa-sw-train-1-pivot`."""

_LEAST_BYTES = 25  # of a sentence; shorter ones are headings, numbers and what a wrong cut left


@dataclass(frozen=True)
class Passage:
    """A passage in sentences, at least one."""

    doc_id: str
    language: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """One question in some languages, and the passages that answer it, each in any language."""

    name: str
    source: str
    questions: tuple[Query, ...]
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Answer:
    """The sentence of a passage that answers, by how much it leads, and the others, the likeliest first."""

    passage: Passage
    row: int
    lead: float
    others: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of the sentence: the passage's, and its number in it."""
        return f"{self.passage.doc_id}-s{self.row}"

    @property
    def text(self) -> str:
        """The sentence."""
        return self.passage.sentences[self.row]

    def other_texts(self) -> list[str]:
        """The other sentences, the likeliest first."""
        return [self.passage.sentences[row] for row in self.others]


def cut_passage(document: Document) -> Passage | None:
    """A passage in different sentences, without its title; None where there are none to speak of."""
    sentences = [sentence for sentence, _ in split_sentences(document.text)]
    kept = tuple(dict.fromkeys(one for one in sentences if len(one.encode()) >= _LEAST_BYTES))
    return Passage(document.doc_id, document.lang, kept) if kept else None


def gather(
    rows: Iterable[Mapping[str, Any]], documents: Mapping[str, Mapping[str, Document]], *, same: str = SAME
) -> list[Asked]:
    """Put together what asks the same.

    Args:
        rows: pairs of questions and passages, as the stage `data` writes them.
        documents: source -> doc_id -> passage.
        same: pattern whose first group is equal in the ids of parallel questions.
    """
    questions: dict[tuple[str, str], dict[str, Query]] = defaultdict(dict)
    doc_ids: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in rows:
        match = re.match(same, row["anchor_id"])
        key = (row["source"], match[1] if match else row["anchor_id"])
        questions[key][row["anchor_id"]] = Query(row["anchor_id"], row["anchor"], row["language"])
        doc_ids[key][row["positive_id"]] = None
    cuts: dict[tuple[str, str], Passage | None] = {}
    asked = []
    for key, own in questions.items():
        passages = []
        for doc_id in doc_ids[key]:
            place = (key[0], doc_id)
            if place not in cuts:
                cuts[place] = cut_passage(documents[key[0]][doc_id])
            if (passage := cuts[place]) is not None:
                passages.append(passage)
        if passages:
            asked.append(Asked(key[1], key[0], tuple(own.values()), tuple(passages)))
    return asked


def find_answers(asked: Sequence[Asked], embed: Embed, *, margin: float) -> list[list[Answer]]:
    """The answers of each question, without those that do not lead by a margin.

    A sentence is compared with the question in its own language (a human translation), or with the question
    in all its languages where there is none; see `choose_answers`.

    Args:
        asked: questions and passages.
        embed: the teacher.
        margin: of the sum of two cosines.
    """
    questions = list(dict.fromkeys(query.text for one in asked for query in one.questions))
    sentences = list(dict.fromkeys(s for one in asked for p in one.passages for s in p.sentences))
    q_rows = {text: row for row, text in enumerate(questions)}
    s_rows = {text: row for row, text in enumerate(sentences)}
    q_vectors, s_vectors = embed("query", questions), embed("passage", sentences)
    found = []
    for one in asked:
        vectors = [s_vectors[[s_rows[text] for text in passage.sentences]] for passage in one.passages]
        near = []
        for passage, own in zip(one.passages, vectors, strict=True):
            there = [query for query in one.questions if query.lang == passage.language] or one.questions
            near.append(own @ q_vectors[[q_rows[query.text] for query in there]].mean(axis=0))
        rows, leads = choose_answers(near, vectors)
        answers = []
        for place, (passage, row, lead) in enumerate(zip(one.passages, rows, leads, strict=True)):
            if lead >= margin:
                order = [int(other) for other in np.argsort(-near[place], kind="stable") if other != row]
                answers.append(Answer(passage, int(row), float(lead), tuple(order)))
        found.append(answers)
    return found


def hard_negatives(query: Query, answer: Answer, answers: Sequence[Answer]) -> list[tuple[str, str]]:
    """Wrong sentences for a question and one of its answers: (text, language), in turns.

    Other sentences of the passage in the question's own language, for that is what a model prefers that
    looks at the language, and other sentences of the answer's passage.
    """
    own = next((one for one in answers if one.passage.language == query.lang), answer)
    lists = [
        [(text, one.passage.language) for text in one.other_texts()]
        for one in ([own, answer] if own is not answer else [answer])
    ]
    turns = (one[number] for number in range(max(map(len, lists))) for one in lists if number < len(one))
    return [found for found in dict.fromkeys(turns) if found[0] not in {one.text for one in answers}]


def group_names(asked: Sequence[Asked], answers: Sequence[Sequence[Answer]]) -> list[str]:
    """For each question the name of those that share an answer with it, directly or by way of others."""
    parents: dict[object, object] = {}

    def root(node: object) -> object:
        while parents.setdefault(node, node) != node:
            node = parents[node]
        return node

    for number, (one, own) in enumerate(zip(asked, answers, strict=True)):
        for answer in own:
            parents[root((one.source, answer.passage.doc_id, answer.row))] = root(number)
    firsts: dict[object, str] = {}
    names = []
    for number, one in enumerate(asked):
        names.append(firsts.setdefault(root(number), f"{one.source}/{one.name}"))
    return names


@dataclass(frozen=True)
class SentencePool:
    """Questions in several languages, sentences in several, and which of these are right."""

    queries: tuple[Query, ...]
    documents: tuple[Document, ...]
    qrels: Qrels


def held_out_sentences(folder: Path, embed: Embed, *, groups: int, margin: float) -> SentencePool:
    """A pool to tune by, in the manner of XQuAD-R, of MLQA's held-out groups.

    All sentences of the passages of some groups are the pool; right for a question are the parallel answer
    sentences in all languages. Questions whose answers are not sure in two languages are left out.

    Args:
        folder: `train/multi-mlqa`.
        embed: the teacher that finds the answers.
        groups: at most so many parallel groups.
        margin: as in `find_answers`.
    """
    doc_ids, query_ids = held_out_mlqa(folder)
    pairs = [
        pair
        for pair in read_retrieval(folder, MLQA_SPLITS, address=folder.name)
        if pair.positive_id in doc_ids and pair.anchor_id in query_ids
    ]
    names = sorted({pair.group for pair in pairs})
    chosen = set(random.Random(folder.name).sample(names, min(groups, len(names))))
    rows = [_row(pair) for pair in pairs if pair.group in chosen]
    documents = {document.doc_id: document for document in open_source(folder).documents()}
    asked = gather(rows, {folder.name: documents})
    ids: dict[tuple[str, str], Document] = {}  # by language and text
    for passage in dict.fromkeys(passage for one in asked for passage in one.passages):
        for number, text in enumerate(passage.sentences):
            name = f"{passage.doc_id}-s{number}"
            ids.setdefault((passage.language, text), Document(name, text, lang=passage.language))
    qrels: Qrels = {}
    for one, answers in zip(asked, find_answers(asked, embed, margin=margin), strict=True):
        if len({answer.passage.language for answer in answers}) > 1:
            right = {ids[answer.passage.language, answer.text].doc_id: 1 for answer in answers}
            qrels |= {query.query_id: right for query in one.questions}
    queries = {query.query_id: query for one in asked for query in one.questions}
    return SentencePool(tuple(queries[name] for name in sorted(qrels)), tuple(ids.values()), qrels)


def _row(pair: Pair) -> dict[str, str]:
    names = ("anchor", "language", "source", "anchor_id", "positive_id")
    return {name: getattr(pair, name) for name in names}


def all_pairs(answers: Sequence[Answer]) -> Iterator[tuple[Answer, Answer]]:
    """Every two answers in different languages, in both orders."""
    for one in answers:
        for other in answers:
            if one.passage.language != other.passage.language:
                yield one, other
