"""Texts as HTML: escaped, words and sentences marked, each in its own direction of writing."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from html import escape

from mretrieve.errors import MissingDependencyError
from mretrieve.index.segment import UNSPACED_LANGUAGES
from mretrieve.mine.sentences import split_sentences
from mretrieve.rank.terms import analyze, find_terms

Span = tuple[int, int]

SENTENCES_AT_MOST = 16
"""Of one passage, among which the closest is looked for."""

_SHORTEST_WORD = 2
_SHORTEST_RUN = 5  # characters; shorter runs that Thai and its like share with a query are chance
_SHORTEST_CLAUSE = 24  # characters of a sentence that was cut at spaces
_LONGEST_SENTENCE = 200
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_ONE_LETTER_WORDS = frozenset({"zh", "ja", "ko", "yue"})


def direction(text: str) -> str:
    """`rtl` or `ltr`, as the first letter of a text that has a direction."""
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in ("R", "AL"):
            return "rtl"
        if kind == "L":
            return "ltr"
    return "ltr"


def mark(text: str, spans: Sequence[Span], kind: str) -> str:
    """HTML of a text whose `spans`, in order and without overlaps, are in `<mark class="kind">`."""
    parts, last = [], 0
    for start, end in spans:
        parts.append(escape(text[last:start]))
        parts.append(f'<mark class="{kind}">{escape(text[start:end])}</mark>')
        last = end
    return "".join([*parts, escape(text[last:])])


def query_words(query: str, text: str, lang: str, *, terms: Collection[str] | None = None) -> list[Span]:
    """Where a text has words of a query, as BM25's analyzer of its language sees them.

    Args:
        query: in any language.
        text: of a document.
        lang: the document's language.
        terms: the query's terms in that language, where they are known already.
    """
    try:
        found = find_terms(text, lang, analyze(query, lang, query=True) if terms is None else terms)
    except MissingDependencyError:  # without Lucene, words that are the same letter by letter
        found = find_terms(text, "", analyze(query, "", query=True))
    if lang in UNSPACED_LANGUAGES:
        least = min(_SHORTEST_RUN, max((end - start for start, end in found), default=0))
    else:
        least = 1 if lang in _ONE_LETTER_WORDS else _SHORTEST_WORD
    return [(start, end) for start, end in found if end - start >= least]


def sentences(text: str) -> list[Span]:
    """Where the first sentences of a text begin and end.

    Scripts that do not mark the ends of sentences are cut at spaces, and so are very long sentences.
    """
    spans: list[Span] = []
    place = len(text) - len(text.lstrip())
    for sentence, gap in split_sentences(text):
        spans += _clauses(text, place, place + len(sentence))
        place += len(sentence) + len(gap)
    return spans[:SENTENCES_AT_MOST]


def _clauses(text: str, start: int, end: int) -> list[Span]:
    if end - start <= _LONGEST_SENTENCE or not _is_unspaced(text[start:end]):
        return [(start, end)]
    spans: list[Span] = []
    while True:
        cut = text.find(" ", start + _SHORTEST_CLAUSE, end - _SHORTEST_CLAUSE)
        if cut < 0:
            return [*spans, (start, end)]
        spans.append((start, cut))
        start = cut + 1


def _is_unspaced(text: str) -> bool:
    return _UNSPACED.search(text) is not None
