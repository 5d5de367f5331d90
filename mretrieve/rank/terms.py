"""What BM25 makes of texts: their terms, where these stand, and what each adds to a document's score."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from mretrieve.encode.pieces import cut_into_pieces
from mretrieve.index import lucene_java
from mretrieve.index.analyzers import Analyzer, analyzer_named, analyzer_of, java_analyzer
from mretrieve.index.jvm import JAVA_LOCK, java_class, start_jvm
from mretrieve.index.lucene import build_query, java_fields
from mretrieve.index.pieces import join_pieces
from mretrieve.index.segment import document_terms, piece_terms, query_terms
from mretrieve.rank.retriever import Retriever

_WEIGHT = re.compile(r"^\s*([\d.E+-]+) = weight\((contents|pieces):(.+) in \d+\)", re.MULTILINE)
_FREQUENCY = re.compile(r"([\d.E+-]+) = freq, ")
_DOCUMENTS = re.compile(r"(\d+) = n, ")
_TERM = "@analysis/tokenattributes/CharTermAttribute"
_PLACE = "@analysis/tokenattributes/OffsetAttribute"
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class TermScore:
    """What one of the query's terms adds to a document's BM25 score.

    `frequency` is how often the document has it, `documents` how many of its language have it. `is_piece` is
    true of pieces that stand beside an analyzer's terms, in a field of their own.
    """

    term: str
    score: float
    frequency: int
    documents: int
    is_piece: bool = False


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
        row: of the document; its language's analyzer reads the query, as it read the index's documents.

    Returns:
        The terms that the document has; none where BM25 knows nothing of its language.

    Raises:
        MissingDependencyError: Lucene is not installed.
    """
    index = retriever.index
    (document,) = index.documents.get([row])
    lang = document.lang
    name = index.manifest.languages[lang].analyzer
    analyzer = None if name is None else analyzer_named(lang, name)
    if analyzer is None:
        return []
    number = index.lexical_number(lang, row)
    texts = [text for (text,) in analyzer.prepare_queries([query], partial(join_pieces, cut=cut_into_pieces))]
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
            asked = build_query(lucene_java.query_generator(), _java_fields(analyzer), texts)
            said = searcher.explain(asked, number).toString()
        finally:
            for java in opened:
                java.close()
    index.check_generation()
    return sorted(_read_explanation(said), key=lambda one: -one.score)


def _read_explanation(said: str) -> Iterator[TermScore]:
    """Each `weight(FIELD:TERM in ROW)` of Lucene's explanation, and what stands under it."""
    weights = list(_WEIGHT.finditer(said))
    ends = [weight.start() for weight in weights[1:]] + [len(said)]
    for weight, end in zip(weights, ends, strict=False):  # there is one end where nothing was found
        below = said[weight.end() : end]
        frequency, documents = _FREQUENCY.search(below), _DOCUMENTS.search(below)
        if frequency and documents:
            is_piece = weight[2] == lucene_java.PIECES_FIELD
            yield TermScore(
                weight[3], float(weight[1]), int(float(frequency[1])), int(documents[1]), is_piece
            )


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
def _java_fields(analyzer: Analyzer) -> dict[str, Any]:
    """As `_java_analyzer`, of all fields."""
    return java_fields(analyzer)


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
