"""Why a document was found: what each leg gave it, and which of its words are the query's."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.encoder import Encoder
from mretrieve.encode.pieces import cut_into_pieces
from mretrieve.errors import InputError
from mretrieve.index import lucene_java
from mretrieve.index.analyzers import Analyzer, analyzer_of, java_analyzer
from mretrieve.index.jvm import JAVA_LOCK, java_class, start_jvm
from mretrieve.index.segment import document_terms, piece_terms, query_terms
from mretrieve.languages import detect_languages
from mretrieve.rank.fusion import EMPTY, Ranking, scale_minmax
from mretrieve.rank.retriever import DEPTH, Ranked, Retriever
from mretrieve.types import Hit, Mode, Query

_WEIGHT = re.compile(r"^\s*([\d.E+-]+) = weight\(contents:(.+) in \d+\)", re.MULTILINE)
_FREQUENCY = re.compile(r"([\d.E+-]+) = freq, ")
_DOCUMENTS = re.compile(r"(\d+) = n, ")
_TERM = "@analysis/tokenattributes/CharTermAttribute"
_PLACE = "@analysis/tokenattributes/OffsetAttribute"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Found:
    """A hit, and what it owes to each leg.

    Attributes:
        hit: with the scores and ranks of the legs.
        row: of its document in the index.
        dense_level: 0 where it stands with the weakest of the dense leg's candidates, 1 with the best; None
            where it is not among them.
        bm25_level: the same of BM25.
        dense_part: what the dense leg adds to the score.
        bm25_part: what BM25 adds to the score.
        unseen_part: what is added since BM25 did not look at documents of this language.
    """

    hit: Hit
    row: int
    dense_level: float | None = None
    bm25_level: float | None = None
    dense_part: float = 0.0
    bm25_part: float = 0.0
    unseen_part: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first; in which mode and as text of which language the query was read."""

    hits: list[Found]
    mode: Mode
    lang: str


@dataclass(frozen=True, slots=True)
class TermScore:
    """What one of the query's terms adds to a document's BM25 score.

    `frequency` is how often the document has it, `documents` how many of its language have it.
    """

    term: str
    score: float
    frequency: int
    documents: int


def search_explained(
    retriever: Retriever,
    query: str,
    *,
    top_k: int = 10,
    mode: Mode | None = None,
    lang: str | None = None,
    languages: Collection[str] | None = None,
) -> Answer:
    """Find the best documents for a query, and say what each leg gave them.

    Arguments and errors are those of `Retriever.search`, and so are the hits.
    """
    mode = retriever.check([Query("1", query, lang or "")], top_k=top_k, mode=mode)
    lang = lang or detect_languages([query], among=retriever.languages)[0]
    depth = max(top_k, DEPTH)  # so that levels mean the same in every mode
    (ranked,) = retriever.rank([Query("1", query, lang)], top_k=depth, mode=mode, languages=languages)
    best = replace(ranked, ranking=ranked.ranking.top(top_k))
    return Answer(list(_explain(retriever, best)), mode, lang)


def similar(
    retriever: Retriever,
    row: int,
    *,
    top_k: int = 10,
    mode: Mode | None = None,
    languages: Collection[str] | None = None,
) -> Answer:
    """Find the documents that are most like one of the index, which is itself left out.

    Args:
        retriever: of the index.
        row: of the document; its title and text are the query.
        top_k: how many to find.
        mode: as in `Retriever.search`.
        languages: as in `Retriever.search`.

    Raises:
        InputError: the index has no such row, or as in `Retriever.search`.
    """
    if not 0 <= row < len(retriever.index.documents):
        raise InputError(f"{retriever.index.path} has no document number {row}: search again.")
    (document,) = retriever.index.documents.get([row])
    lang = document.lang if document.lang in retriever.languages else None
    answer = search_explained(
        retriever, document.contents, top_k=top_k + 1, mode=mode, lang=lang, languages=languages
    )
    others = [one for one in answer.hits if one.row != row][:top_k]
    ranked = [replace(one, hit=replace(one.hit, rank=rank)) for rank, one in enumerate(others, start=1)]
    return replace(answer, hits=ranked)


def _explain(retriever: Retriever, ranked: Ranked) -> Iterator[Found]:
    dense_parts, bm25_parts, unseen_parts = _parts(retriever, ranked)
    dense, bm25 = _levels(ranked.dense), _levels(ranked.bm25)
    for row, hit in zip(ranked.ranking.rows.tolist(), retriever.hits(ranked), strict=True):
        yield Found(
            hit,
            row,
            dense.get(row),
            bm25.get(row),
            dense_parts.get(row, 0.0),
            bm25_parts.get(row, 0.0),
            unseen_parts.get(row, 0.0),
        )


def _parts(retriever: Retriever, ranked: Ranked) -> tuple[dict[int, float], ...]:
    """Row -> what the dense leg, BM25 and the benefit of the doubt add; together they are the score."""
    if ranked.dense is None or ranked.bm25 is None:
        alone = _by_row(ranked.ranking)
        return (alone, {}, {}) if ranked.dense is not None else ({}, alone, {})
    # A sum over the legs, so each can be had by leaving the others out.
    fuse = (ranked.fusion or retriever.fusion).fuse
    dense, bm25 = _by_row(fuse(ranked.dense, EMPTY)), _by_row(fuse(EMPTY, ranked.bm25))
    with_unseen = _by_row(fuse(ranked.dense, EMPTY, seen=ranked.seen))
    return dense, bm25, {row: score - dense[row] for row, score in with_unseen.items()}


def _levels(ranking: Ranking | None) -> dict[int, float]:
    if ranking is None or not len(ranking.rows):
        return {}
    levels = scale_minmax(ranking.scores.astype(np.float64))
    return dict(zip(ranking.rows.tolist(), levels.tolist(), strict=True))


def _by_row(ranking: Ranking) -> dict[int, float]:
    return dict(zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True))


def closeness(retriever: Retriever, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """How near texts, such as the sentences of a hit, are to a query.

    Returns:
        (n,) float32, the cosines.

    Raises:
        InputError: the index has no dense part, or its model cannot be used.
    """
    encoder = retriever._encoder
    if not isinstance(encoder, Encoder):
        raise encoder or InputError(f"{retriever.index.path} has no dense part, and so no model.")
    cosines: NDArray[np.float32] = encoder.encode_documents(texts) @ encoder.encode_queries([query])[0]
    return cosines


def analyze(text: str, lang: str, *, query: bool = False) -> list[str]:
    """The terms that BM25 makes of a text, in order.

    Args:
        text: of a document or a query.
        lang: whose analyzer reads it.
        query: whether it is a query, which some analyzers cut in another way than documents.

    Raises:
        MissingDependencyError: the language's analyzer is Lucene's, which is not installed.
    """
    analyzer = analyzer_of(lang)
    if analyzer.kind == "segment":
        return query_terms(text) if query else document_terms(text)
    if analyzer.kind == "pieces":
        return piece_terms(cut_into_pieces([text.lower()])[0])
    return [term for term, _, _ in _tokens(text, analyzer)]


def find_terms(text: str, lang: str, terms: Collection[str]) -> list[tuple[int, int]]:
    """Where a text has some terms, such as those of a query.

    Args:
        text: of a document.
        lang: its language.
        terms: as `analyze` gives them for this language.

    Returns:
        Start and end of each place, in order and without overlaps, touching ones joined.

    Raises:
        MissingDependencyError: as in `analyze`.
    """
    wanted = frozenset(terms)
    analyzer = analyzer_of(lang)
    if analyzer.kind == "segment":
        places = sorted(_runs_of_characters(text, wanted))
    elif analyzer.kind == "pieces":
        places = list(_words_of_pieces(text, wanted))
    else:
        places = [(start, end) for term, start, end in _tokens(text, analyzer) if term in wanted]
    return _joined(places)


def _runs_of_characters(text: str, wanted: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Where the terms stand in a text that `segment.py` cuts, which it first brings into one form."""
    forms = [_one_form(character) for character in text]
    origin = [place for place, form in enumerate(forms) for _ in form]
    plain = "".join(forms)
    for term in wanted:
        start = plain.find(term)
        while start >= 0:
            yield origin[start], origin[start + len(term) - 1] + 1
            start = plain.find(term, start + 1)


def _one_form(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    if unicodedata.category(character) == "Cf":  # spaces of no width
        return ""
    return unicodedata.normalize("NFKC", character).lower()


def _words_of_pieces(text: str, wanted: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Words all of whose pieces are wanted."""
    words = list(_WORD.finditer(text))
    forms = sorted({word[0].lower() for word in words})
    found = dict(zip(forms, map(piece_terms, cut_into_pieces(forms)), strict=True))
    for word in words:
        terms = found[word[0].lower()]
        if terms and wanted.issuperset(terms):
            yield word.start(), word.end()


def _joined(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in places:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        elif end > start:
            joined.append((start, end))
    return joined


def term_scores(retriever: Retriever, query: str, row: int) -> list[TermScore]:
    """What each of the query's terms adds to a document's BM25 score, most first.

    Args:
        retriever: of the index.
        query: as it was searched for.
        row: of the document, whose language's analyzer reads the query.

    Returns:
        The terms that the document has; none where BM25 knows nothing of its language.

    Raises:
        MissingDependencyError: Lucene is not installed.
    """
    index = retriever.index
    (document,) = index.documents.get([row])
    lang = document.lang
    if lang not in index.lexical_languages:
        return []
    analyzer = analyzer_of(lang)
    number = index.lexical_number(lang, row)
    (text,) = analyzer.prepare_queries([query], cut_into_pieces)
    folders, ranking = index.lexical_folders(lang), index.manifest.ranking
    start_jvm()
    with JAVA_LOCK:
        classes = _java()
        opened = [lucene_java.open_directory(folder) for folder in folders]
        try:
            readers = [lucene_java.open_reader(directory) for directory in opened]
            opened = [*readers, *opened]
            one = readers[0] if len(readers) == 1 else lucene_java.join_readers(readers)
            searcher = classes.IndexSearcher(one)
            searcher.setSimilarity(classes.BM25Similarity(ranking.k1, ranking.b))
            asked = lucene_java.query_generator().buildQuery(lucene_java.FIELD, _java_analyzer(lang), text)
            said = searcher.explain(asked, number).toString()
        finally:
            for java in opened:
                java.close()
    index.check_generation()
    return sorted(_read_explanation(said), key=lambda one: -one.score)


def _read_explanation(said: str) -> Iterator[TermScore]:
    """Each `weight(contents:TERM in ROW)` of Lucene's explanation, and what stands under it."""
    weights = list(_WEIGHT.finditer(said))
    ends = [weight.start() for weight in weights[1:]] + [len(said)]
    for weight, end in zip(weights, ends, strict=False):  # there is one end where nothing was found
        below = said[weight.end() : end]
        frequency, documents = _FREQUENCY.search(below), _DOCUMENTS.search(below)
        if frequency and documents:
            yield TermScore(weight[2], float(weight[1]), int(float(frequency[1])), int(documents[1]))


def _tokens(text: str, analyzer: Analyzer) -> list[tuple[str, int, int]]:
    """The terms of one of Lucene's analyzers, and where each stands in the text."""
    start_jvm()
    text = text.encode("utf-8", "replace").decode()
    with JAVA_LOCK:
        from jnius import cast

        classes = _java()
        stream = cast(classes.Analyzer, _java_analyzer(analyzer.lang)).tokenStream(lucene_java.FIELD, text)
        term = cast(classes.CharTermAttribute, stream.addAttribute(_attribute(_TERM)))
        place = cast(classes.OffsetAttribute, stream.addAttribute(_attribute(_PLACE)))
        found = []
        stream.reset()
        try:
            while stream.incrementToken():
                found.append((str(term.toString()), int(place.startOffset()), int(place.endOffset())))
            stream.end()
        finally:
            stream.close()
    return found if text.isascii() else [(one, *_from_utf16(text, *span)) for one, *span in found]


def _from_utf16(text: str, start: int, end: int) -> tuple[int, int]:
    """Java counts the characters beyond U+FFFF double."""
    if max(text) <= "\uffff":
        return start, end
    units = text.encode("utf-16-le")
    return tuple(len(units[: 2 * place].decode("utf-16-le", "ignore")) for place in (start, end))  # type: ignore[return-value]


@cache
def _java_analyzer(lang: str) -> Any:
    """Kept, since some read dictionaries; called under `JAVA_LOCK`."""
    return java_analyzer(analyzer_of(lang))


@cache
def _attribute(name: str) -> Any:
    """The object that stands for a Java class."""
    from jnius.reflect import Class  # a second one of that name would stand in pyjnius's own way

    return Class.forName(name.replace("@", "org/apache/lucene/").replace("/", "."))


@cache
def _java() -> Any:
    """Classes of Lucene that only explanations need, all used under `JAVA_LOCK`."""
    found = [
        java_class("@util/Attribute"),
        java_class(
            "@analysis/TokenStream",
            methods={
                "addAttribute": "(Ljava/lang/Class;)L@util/Attribute;",
                "reset": "()V",
                "incrementToken": "()Z",
                "end": "()V",
                "close": "()V",
            },
        ),
        java_class(_TERM, methods={"toString": "()Ljava/lang/String;"}),
        java_class(_PLACE, methods={"startOffset": "()I", "endOffset": "()I"}),
        java_class(
            "@analysis/Analyzer",
            methods={"tokenStream": "(Ljava/lang/String;Ljava/lang/String;)L@analysis/TokenStream;"},
        ),
        java_class("@search/similarities/BM25Similarity", new="(FF)V"),
        java_class("@search/Explanation", methods={"toString": "()Ljava/lang/String;"}),
        java_class(
            "@search/IndexSearcher",
            new="(L@index/IndexReader;)V",
            methods={
                "explain": "(L@search/Query;I)L@search/Explanation;",
                "setSimilarity": "(L@search/similarities/Similarity;)V",
            },
        ),
    ]
    return type("_Classes", (), {java.__name__.rpartition("$")[2]: java for java in found})
