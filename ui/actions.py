"""What the page and its API do: find, compare, explain, in plain Python and without Gradio."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from mretrieve import InputError, Retriever
from mretrieve.languages import detect_languages
from mretrieve.milvus.address import is_milvus_address
from mretrieve.rank.explain import Answer, Found, closeness, search_explained, similar
from mretrieve.rank.terms import analyze, term_scores
from mretrieve.types import Mode

from .cards import Card, Question
from .experts import Routing, route
from .library import Library
from .marking import Span, query_words, sentences

LONGEST_QUERY = 10_000
"""Characters; more is refused."""

MOST_HITS = 100
"""Of one search on the page."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the controls of the page say: which index, how, in which languages, how many."""

    index: str
    mode: Mode | None = None
    languages: Sequence[str] = ()
    top_k: int = 10


def modes_of(retriever: Retriever) -> list[Mode]:
    """The modes that an index allows, the default first."""
    dense = retriever.index.manifest.encoder is not None
    bm25 = bool(retriever.index.lexical_languages)
    return ["hybrid", "dense", "bm25"] if dense and bm25 else ["dense"] if dense else ["bm25"]


def find(library: Library, query: str, wish: Wish) -> tuple[Question, list[Card]]:
    """Search, and say which words of each passage to mark.

    Raises:
        InputError: the query is empty or too long, or cannot be answered by this index.
    """
    if len(query) > LONGEST_QUERY:
        raise InputError(f"The question has {len(query):,} characters: give at most {LONGEST_QUERY:,}.")
    retriever, start = library[wish.index], perf_counter()
    answer = search_explained(
        retriever,
        query,
        top_k=_hits(wish.top_k),
        mode=wish.mode,
        languages=list(wish.languages) or None,
    )
    seconds = perf_counter() - start
    question = Question(wish.index, query, answer.mode, answer.lang, wish.languages, seconds=seconds)
    return question, _cards(retriever, query, answer)


def find_similar(library: Library, row: int, wish: Wish, *, doc_id: str = "") -> tuple[Question, list[Card]]:
    """Search by a passage of the index.

    Args:
        library: the indexes.
        row: of the passage.
        wish: as in `find`.
        doc_id: its id if known, to notice that the index was replaced since.

    Raises:
        InputError: there is no such passage (any more), or as in `find`.
    """
    retriever, start = library[wish.index], perf_counter()
    document = _document(retriever, row, doc_id)
    answer = similar(
        retriever,
        row,
        top_k=_hits(wish.top_k),
        mode=wish.mode,
        languages=list(wish.languages) or None,
    )
    seconds = perf_counter() - start
    question = Question(
        wish.index, document.contents, answer.mode, answer.lang, wish.languages, row=row, seconds=seconds
    )
    return question, [Card(found) for found in answer.hits]


def find_one(library: Library, query: str, row: int, wish: Wish, *, doc_id: str = "") -> Found:
    """What each leg says of one passage that is among the best `MOST_HITS` for a query."""
    retriever = library[wish.index]
    _document(retriever, row, doc_id)
    languages = list(wish.languages) or None
    answer = search_explained(retriever, query, top_k=MOST_HITS, mode=wish.mode, languages=languages)
    for found in answer.hits:
        if found.row == row:
            return found
    raise InputError(f"This passage is not among the best {MOST_HITS} for the question.")


def closest_sentences(
    library: Library, index: str, query: str, rows: Sequence[int]
) -> dict[int, tuple[str, Span]]:
    """Of each passage its text and where the sentence is that is closest to the query.

    Passages of one sentence are left out, and all where the index has no model.
    """
    retriever = library[index]
    if retriever.index.manifest.encoder is None:
        return {}
    texts = {row: _document(retriever, row).text for row in dict.fromkeys(rows[:MOST_HITS])}
    spans = {row: found for row, text in texts.items() if len(found := sentences(text)) > 1}
    pieces = [texts[row][start:end] for row, found in spans.items() for start, end in found]
    if not pieces:
        return {}
    cosines = closeness(retriever, query, pieces)
    closest, place = {}, 0
    for row, found in spans.items():
        best = int(cosines[place : place + len(found)].argmax())
        closest[row] = (texts[row], found[best])
        place += len(found)
    return closest


def route_query(library: Library, query: str, index: str) -> Routing:
    """The routing of a query by the model of an index.

    Raises:
        InputError: the model has no experts, or is not at hand.
    """
    retriever = library[index]
    encoder = retriever.index.manifest.encoder
    if encoder is None:
        raise InputError(f"{index} has no dense part, and so no model.")
    lang = detect_languages([query], among=retriever.languages)[0]
    return route(encoder.model, query, prefix=encoder.query_prefix, lang=lang)


def index_facts(retriever: Retriever) -> dict[str, Any]:
    """What an index says about itself, for JSON, without its list of files."""
    said: dict[str, Any] = json.loads(retriever.index.manifest.to_json())
    del said["files"]
    return said


def hit_to_dict(found: Found) -> dict[str, Any]:
    """A hit for JSON."""
    parts = {"dense": found.dense_part, "bm25": found.bm25_part, "unseen": found.unseen_part}
    return found.hit.to_dict() | {"row": found.row, "parts": parts}


def explanation_to_dict(retriever: Retriever, query: str, found: Found) -> dict[str, Any]:
    """Why a passage was found, for JSON; what each term adds, Milvus does not tell."""
    lang = found.hit.lang
    terms = [
        {
            "term": one.term,
            "score": one.score,
            "frequency": one.frequency,
            "documents": one.documents,
            "is_piece": one.is_piece,
        }
        for one in (
            [] if is_milvus_address(retriever.index.path) else term_scores(retriever, query, found.row)
        )
    ]
    return {
        "hit": hit_to_dict(found),
        "terms": terms,
        "query_terms": analyze(query, lang, query=True),
        "passage_terms": analyze(found.hit.text, lang),
    }


def _cards(retriever: Retriever, query: str, answer: Answer) -> list[Card]:
    """Words are marked where BM25 has a say; where there are none, the closest sentence is asked for."""
    has_model = retriever.index.manifest.encoder is not None
    if answer.mode == "dense":
        return [Card(found, wants_sentence=has_model) for found in answer.hits]
    terms: dict[str, list[str]] = {}
    cards = []
    for found in answer.hits:
        lang = found.hit.lang
        if lang not in terms:
            terms[lang] = analyze(query, lang, query=True)
        words = query_words(query, found.hit.text, lang, terms=terms[lang])
        cards.append(Card(found, words, wants_sentence=has_model and not words))
    return cards


def _hits(top_k: int) -> int:
    if not 1 <= top_k <= MOST_HITS:
        raise InputError(f"top_k is {top_k}, but it should be from 1 to {MOST_HITS}.")
    return top_k


def _document(retriever: Retriever, row: int, doc_id: str = "") -> Any:
    documents = retriever.index.documents
    if 0 <= row < len(documents):
        (document,) = documents.get([row])
        if not doc_id or document.doc_id == doc_id:
            return document
    raise InputError("The index was replaced since this search: search again.")
