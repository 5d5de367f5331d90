"""Which analyzer BM25 uses for each language."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mretrieve.index.jvm import java_class
from mretrieve.index.segment import UNSPACED_LANGUAGES, document_terms, piece_terms, query_terms

Cut = Callable[[list[str]], list[list[str]]]
"""n texts -> the pieces of each, of a multilingual SentencePiece vocabulary in which `▁` begins a word."""

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
    """

    lang: str
    kind: Literal["anserini", "lucene", "segment", "pieces"]
    name: str

    def __str__(self) -> str:
        """`anserini:org.apache.lucene.analysis.ar.ArabicAnalyzer`, for manifests."""
        return f"{self.kind}:{self.name}"

    def prepare_documents(self, texts: Sequence[str], cut: Cut | None) -> Sequence[str]:
        """Texts as Lucene shall read them: with spaces between the terms where these are cut in Python."""
        if self.kind == "segment":
            return [" ".join(document_terms(text)) for text in texts]
        return self._cut(texts, cut) if self.kind == "pieces" else texts

    def prepare_queries(self, texts: Sequence[str], cut: Cut | None) -> Sequence[str]:
        """As `prepare_documents`, for queries."""
        if self.kind == "segment":
            return [" ".join(query_terms(text)) for text in texts]
        return self._cut(texts, cut) if self.kind == "pieces" else texts

    def _cut(self, texts: Sequence[str], cut: Cut | None) -> list[str]:
        if cut is None:
            raise ValueError(f"Lucene has no analyzer for {self.lang!r}, so `cut` should be given.")
        # The vocabulary tells upper from lower case, which a search should not.
        return [" ".join(piece_terms(pieces)) for pieces in cut([text.lower() for text in texts])]


def analyzer_of(lang: str) -> Analyzer:
    """The analyzer of a language; languages without one, and the unknown, go by pieces.

    Args:
        lang: ISO 639-1 code, or 639-3 where there is none; empty if unknown.
    """
    if lang == "en":
        return Analyzer(lang, "anserini", _ENGLISH)
    if lang in _ANSERINI:
        return Analyzer(lang, "anserini", _LUCENE + _ANSERINI[lang])
    if lang in _MORE_OF_LUCENE:
        return Analyzer(lang, "lucene", _LUCENE + _MORE_OF_LUCENE[lang])
    if lang in UNSPACED_LANGUAGES:
        return Analyzer(lang, "segment", "character-runs-1")
    return Analyzer(lang, "pieces", "xlm-r-pieces-1")


def java_analyzer(analyzer: Analyzer) -> Any:
    """Make Lucene's analyzer; Java runs already. Terms that Python has cut are split at spaces again."""
    if analyzer.kind in ("segment", "pieces"):
        return java_class(_WHITESPACE)()
    name = analyzer.name.replace(".", "/")
    if analyzer.name == _ENGLISH:
        return java_class(name, static_methods={"newDefaultInstance": f"()L{name};"}).newDefaultInstance()
    return java_class(name)()
