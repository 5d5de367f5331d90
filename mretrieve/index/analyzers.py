"""Which analyzer BM25 uses for each language, and whether a vocabulary's pieces stand beside its terms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from mretrieve.index.jvm import java_class
from mretrieve.index.pieces import Join
from mretrieve.index.segment import UNSPACED_LANGUAGES, document_terms, query_terms
from mretrieve.index.terms import Terms

PIECES = "xlm-r-pieces-1"
"""What `pieces.py` does, and in which version."""

_LUCENE = "org.apache.lucene.analysis."
_ENGLISH = "io.anserini.analysis.DefaultEnglishAnalyzer"
_WHITESPACE = "@analysis/core/WhitespaceAnalyzer"

# The entries of `io.anserini.analysis.AnalyzerMap` but Thai, whose analyzer asks Java for the words.
_ANSERINI = {
    "ar": "ar.ArabicAnalyzer",
    "bn": "bn.BengaliAnalyzer",
    "da": "da.DanishAnalyzer",
    "de": "de.GermanAnalyzer",
    "es": "es.SpanishAnalyzer",
    "fa": "fa.PersianAnalyzer",
    "fi": "fi.FinnishAnalyzer",
    "fr": "fr.FrenchAnalyzer",
    "hi": "hi.HindiAnalyzer",
    "hu": "hu.HungarianAnalyzer",
    "id": "id.IndonesianAnalyzer",
    "it": "it.ItalianAnalyzer",
    "ja": "ja.JapaneseAnalyzer",
    "ko": "cjk.CJKAnalyzer",
    "nl": "nl.DutchAnalyzer",
    "no": "no.NorwegianAnalyzer",
    "pl": "morfologik.MorfologikAnalyzer",
    "pt": "pt.PortugueseAnalyzer",
    "ru": "ru.RussianAnalyzer",
    "sv": "sv.SwedishAnalyzer",
    "te": "te.TeluguAnalyzer",
    "tr": "tr.TurkishAnalyzer",
    "uk": "uk.UkrainianMorfologikAnalyzer",
    "zh": "cjk.CJKAnalyzer",
}

# Anserini reads these as English, though its jar holds an analyzer for them.
_MORE_OF_LUCENE = {
    "bg": "bg.BulgarianAnalyzer",
    "ca": "ca.CatalanAnalyzer",
    "ckb": "ckb.SoraniAnalyzer",
    "cs": "cz.CzechAnalyzer",
    "el": "el.GreekAnalyzer",
    "et": "et.EstonianAnalyzer",
    "eu": "eu.BasqueAnalyzer",
    "ga": "ga.IrishAnalyzer",
    "gl": "gl.GalicianAnalyzer",
    "hy": "hy.ArmenianAnalyzer",
    "lt": "lt.LithuanianAnalyzer",
    "lv": "lv.LatvianAnalyzer",
    "ne": "ne.NepaliAnalyzer",
    "nn": "no.NorwegianAnalyzer",
    "ro": "ro.RomanianAnalyzer",
    "sr": "sr.SerbianAnalyzer",
    "ta": "ta.TamilAnalyzer",
    "yue": "cjk.CJKAnalyzer",
}

LUCENE_LANGUAGES = ("en", *_ANSERINI, *_MORE_OF_LUCENE)
"""Languages that have an analyzer of Lucene."""


@dataclass(frozen=True, slots=True)
class Analyzer:
    """How texts of a language become terms.

    Attributes:
        lang: ISO 639-1 code, or 639-3 where there is none.
        kind: `anserini` (the analyzer that Anserini uses), `lucene` (another of Lucene's), `segment` (runs
            of characters) or `pieces` (of a multilingual vocabulary, given from outside).
        name: a Java class, or what `segment.py` does and in which version.
        adds_pieces: whether pieces stand in a field of their own beside these terms.
    """

    lang: str
    kind: Literal["anserini", "lucene", "segment", "pieces"]
    name: str
    adds_pieces: bool = False

    def __str__(self) -> str:
        """`anserini:org.apache.lucene.analysis.ar.ArabicAnalyzer+xlm-r-pieces-1`, for manifests."""
        return f"{self.kind}:{self.name}" + (f"+{PIECES}" if self.adds_pieces else "")

    @property
    def terms(self) -> Terms:
        """What it goes by."""
        return "both" if self.adds_pieces else "pieces" if self.kind == "pieces" else "analyzer"

    def prepare_documents(self, texts: Sequence[str], join: Join | None) -> list[Sequence[str]]:
        """Texts as Lucene shall read them: with spaces between the terms where these are cut in Python.

        Args:
            texts: of documents.
            join: puts spaces between the pieces of texts; needed where the analyzer has pieces.

        Returns:
            The texts of the main field, and of the field of pieces if there is one.
        """
        if self.kind == "segment":
            return self._columns(texts, [" ".join(document_terms(text)) for text in texts], join)
        return self._columns(texts, texts, join)

    def prepare_queries(self, texts: Sequence[str], join: Join | None) -> list[Sequence[str]]:
        """As `prepare_documents`, for queries."""
        if self.kind == "segment":
            return self._columns(texts, [" ".join(query_terms(text)) for text in texts], join)
        return self._columns(texts, texts, join)

    def _columns(self, texts: Sequence[str], own: Sequence[str], join: Join | None) -> list[Sequence[str]]:
        if self.kind != "pieces" and not self.adds_pieces:
            return [own]
        if join is None:
            raise ValueError(f"BM25 of {self.lang!r} goes by pieces ({self}), so they should be given.")
        pieces = join(texts)
        return [own, pieces] if self.adds_pieces else [pieces]


def analyzer_of(lang: str, terms: Terms = "analyzer") -> Analyzer:
    """The analyzer of a language; languages without one, and the unknown, go by pieces whatever is asked for.

    Args:
        lang: ISO 639-1 code, or 639-3 where there is none; empty if unknown.
        terms: whether pieces shall stand in place of the analyzer's terms, or beside them.
    """
    own = _own_analyzer(lang)
    if own.kind == "pieces" or terms == "analyzer":
        return own
    return Analyzer(lang, "pieces", PIECES) if terms == "pieces" else replace(own, adds_pieces=True)


def analyzer_named(lang: str, name: str) -> Analyzer | None:
    """The analyzer of a language that `str` wrote as `name`; None where there is no such now."""
    known = [analyzer_of(lang, terms) for terms in get_args(Terms)]
    return next((analyzer for analyzer in known if str(analyzer) == name), None)


def _own_analyzer(lang: str) -> Analyzer:
    if lang == "en":
        return Analyzer(lang, "anserini", _ENGLISH)
    if lang in _ANSERINI:
        return Analyzer(lang, "anserini", _LUCENE + _ANSERINI[lang])
    if lang in _MORE_OF_LUCENE:
        return Analyzer(lang, "lucene", _LUCENE + _MORE_OF_LUCENE[lang])
    if lang in UNSPACED_LANGUAGES:
        return Analyzer(lang, "segment", "character-runs-1")
    return Analyzer(lang, "pieces", PIECES)


def java_analyzer(analyzer: Analyzer) -> Any:
    """Make Lucene's analyzer of the main field; Java runs already.

    Terms that Python has cut are split at spaces again.
    """
    if analyzer.kind in ("segment", "pieces"):
        return java_pieces_analyzer()
    name = analyzer.name.replace(".", "/")
    if analyzer.name == _ENGLISH:
        return java_class(name, static_methods={"newDefaultInstance": f"()L{name};"}).newDefaultInstance()
    return java_class(name)()


def java_pieces_analyzer() -> Any:
    """Make Lucene's analyzer of the field of pieces; Java runs already."""
    return java_class(_WHITESPACE)()
