"""Which documents answer a question although nobody judged them for it: what is known beforehand."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.datasets.records import read_jsonl
from mretrieve.datasets.source import find_beir_file, resolve_address
from mretrieve.errors import InputError
from mretrieve.mine.candidates import Reason
from mretrieve.mine.near import plain
from mretrieve.types import Document, Qrels, Query

_SHORTEST_ANSWER = 4  # letters and digits; shorter ones stand in too many texts by chance
_WITHOUT_SPACES = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_NOT_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one query's answers: ids of documents, groups of parallel ones, and answers' texts."""

    positives: frozenset[str]
    judged: frozenset[str]
    by_question: frozenset[str]
    by_answer: frozenset[str]
    groups: frozenset[str]
    answers: tuple[str, ...]


@dataclass(slots=True)
class Relations:
    """Tells documents that answer a question by what is known of others.

    Args:
        queries: all questions that were judged, of every split, so that equal ones are found.
        qrels: all judgements.
        groups: id -> name of a group of parallel documents or parallel questions.
        answers: query_id -> its short answers, where the data have some.
    """

    queries: Iterable[Query]
    qrels: Qrels
    groups: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _peers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set), init=False)
    _keys: dict[str, tuple[str, ...]] = field(default_factory=dict, init=False)
    _by_answer: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set), init=False)

    def __post_init__(self) -> None:
        """Look up once which questions are the same and which share an answer."""
        for query in self.queries:
            keys = [f"text {plain(query.text)}"]
            if query.query_id in self.groups:
                keys.append(f"group {self.groups[query.query_id]}")
            self._keys[query.query_id] = tuple(keys)
            for key in keys:
                self._peers[key].add(query.query_id)
        for query_id, answers in self.answers.items():
            for answer in answers:
                self._by_answer[plain(answer)] |= self.relevant(query_id)

    def relevant(self, query_id: str) -> set[str]:
        """Documents judged relevant to a query."""
        return {doc_id for doc_id, grade in self.qrels.get(query_id, {}).items() if grade > 0}

    def known(self, query_id: str) -> Known:
        """Everything known of a query's answers."""
        judged = self.qrels.get(query_id, {})
        positives = self.relevant(query_id)
        peers = {peer for key in self._keys.get(query_id, ()) for peer in self._peers[key]}
        by_question = set().union(*(self.relevant(peer) for peer in peers)) - positives
        answers = [answer for answer in self.answers.get(query_id, ()) if plain(answer)]
        by_answer = set().union(*(self._by_answer[plain(answer)] for answer in answers))
        related = positives | by_question
        return Known(
            positives=frozenset(positives),
            judged=frozenset(doc_id for doc_id, grade in judged.items() if grade <= 0),
            by_question=frozenset(by_question),
            by_answer=frozenset(by_answer - related),
            groups=frozenset(self.groups[doc_id] for doc_id in related if doc_id in self.groups),
            answers=tuple(answer for answer in answers if len(plain(answer)) >= _shortest(answer)),
        )

    def reason(self, known: Known, document: Document) -> Reason | None:
        """Why a document is an answer, as far as it is known beforehand.

        Args:
            known: as `known` gives it for the query.
            document: a document found for it.
        """
        if document.doc_id in known.positives:
            return "judged relevant"
        if document.doc_id in known.by_question:
            return "relevant to the same question"
        if self.groups.get(document.doc_id) in known.groups:
            return "parallel to a positive"
        if document.doc_id in known.judged:
            return None  # a person's judgement counts for more than an answer's words
        if document.doc_id in known.by_answer:
            return "relevant to the same answer"
        if known.answers and holds_answer(document.contents, known.answers):
            return "holds the answer"
        return None


def holds_answer(text: str, answers: Iterable[str]) -> bool:
    """Whether one of the answers stands in a text, as whole words where the script has spaces."""
    words = _as_words(text)
    return any(
        _as_words(answer).strip() in words if _WITHOUT_SPACES.search(answer) else _as_words(answer) in words
        for answer in answers
    )


def _as_words(text: str) -> str:
    """Lower case, one space between words and around them all."""
    return f" {_NOT_WORDS.sub(' ', unicodedata.normalize('NFKC', text).casefold()).strip()} "


def _shortest(answer: str) -> int:
    return 2 if _WITHOUT_SPACES.search(answer) else _SHORTEST_ANSWER


def read_groups(path: str | Path) -> dict[str, str]:
    """Read which documents (or questions) say the same in several languages.

    Args:
        path: lines of `group<tab>id`, or a folder written by `mretrieve translate`, whose records name the
            one that they were translated from.

    Returns:
        id -> name of its group.

    Raises:
        InputError: the file is missing, broken, or puts an id into two groups.
    """
    file = resolve_address(path)
    if file.is_dir():
        return _groups_of_translations(file)
    groups: dict[str, str] = {}
    for number, line in read_lines(file):
        if isinstance(line, BadRecord):
            raise InputError(f"{file}:{number}: {line}.")
        if not line.strip():
            continue
        group, tab, member = line.partition("\t")
        if not (tab and group and member) or "\t" in member:
            raise InputError(f"{file}:{number}: a line of parallel groups is `group<tab>id`.")
        if groups.setdefault(member, group) != group:
            raise InputError(
                f"{file}:{number}: '{member}' is in group '{group}', but further up in '{groups[member]}'."
            )
    if not groups:
        raise InputError(f"{file} holds no groups: give lines of `group<tab>id`.")
    return groups


def _groups_of_translations(folder: Path) -> dict[str, str]:
    groups: dict[str, str] = {}
    for stem in ("corpus", "queries"):
        file = find_beir_file(folder, stem)
        for line, record in read_jsonl(file) if file else ():
            if isinstance(record, BadRecord):
                raise InputError(f"{file}:{line}: {record}.")
            source = record.get("source_id")
            if isinstance(source, str):
                groups[source] = groups[str(record.get("_id"))] = source
    if not groups:
        raise InputError(
            f"The records of {folder} have no `source_id`, which would tell what they are parallel to: give "
            "a folder written by `mretrieve translate`, or a file of `group<tab>id`."
        )
    return groups


def read_answers(folder: Path) -> dict[str, tuple[str, ...]]:
    """Read the short answers that stand beside the questions of a BEIR folder.

    Returns:
        query_id -> answers, from the fields `answers` or `answer`; empty where the data have none.
    """
    file = find_beir_file(folder, "queries")
    answers: dict[str, tuple[str, ...]] = {}
    for _, record in read_jsonl(file) if file else ():
        if isinstance(record, BadRecord):
            continue  # the reader of queries tells of it
        found = record.get("answers") or record.get("answer")
        texts = [found] if isinstance(found, str) else found if isinstance(found, list) else []
        if texts := [text for text in texts if isinstance(text, str) and text.strip()]:
            answers[str(record.get("_id"))] = tuple(texts)
    return answers
