"""How Milvus cuts texts into the terms of BM25.

A Milvus server does it itself, with an analyzer for each language. Milvus Lite knows one for words of Latin
letters and one for Chinese alone, which split Hindi at its vowel signs; so for it we cut texts as for our own
indexes, with the same analyzers of Lucene, and write the terms in signs that it leaves as they are.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from mretrieve.rank.terms import analyze

Analysis = Literal["client", "server"]
"""Who cuts texts into terms: we, or Milvus."""

FIELD_BYTES = 65_535
"""UTF-8 bytes that a text field of Milvus holds, at most."""

NO_TERMS = "zz"
"""Stands for a document without any term, which Milvus refuses; no query asks for it."""

_STEMMERS = {
    "ar": "arabic",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
}
_PLAIN = re.compile(r"\w+")


def server_analyzers() -> dict[str, Any]:
    """What a server is told of the analyzers, by the field `lang`; other languages have the default."""
    analyzers: dict[str, Mapping[str, Any]] = {
        "default": {"tokenizer": "icu", "filter": ["lowercase"]},
        "en": {"type": "english"},
        "zh": {"type": "chinese"},
        "ja": {"tokenizer": {"type": "lindera", "dict_kind": "ipadic"}, "filter": ["lowercase"]},
        "ko": {"tokenizer": {"type": "lindera", "dict_kind": "ko-dic"}, "filter": ["lowercase"]},
    }
    for lang, name in _STEMMERS.items():
        stemmer = {"type": "stemmer", "language": name}
        analyzers[lang] = {"tokenizer": "standard", "filter": ["lowercase", stemmer]}
    return {"by_field": "lang", "analyzers": analyzers}


def analyzer_name(lang: str) -> str:
    """Which of `server_analyzers` reads a language."""
    return lang if lang in _STEMMERS or lang in ("en", "zh", "ja", "ko") else "default"


def document_terms(text: str, lang: str, analysis: Analysis) -> str:
    """What goes into the field that BM25 reads: at most `FIELD_BYTES`, never empty.

    Raises:
        MissingDependencyError: the language's analyzer is Lucene's, which is not installed.
    """
    if analysis == "server":
        return cut_to_field(text) or NO_TERMS
    return cut_to_field(_join(text, lang, query=False)) or NO_TERMS


def query_terms(text: str, lang: str, analysis: Analysis) -> str:
    """As `document_terms` for a query; empty where it has no term."""
    return cut_to_field(text if analysis == "server" else _join(text, lang, query=True))


def cut_to_field(text: str) -> str:
    """As much of a text as a field holds, up to a space if it is too long and has one."""
    data = text.encode()
    if len(data) <= FIELD_BYTES:
        return text
    kept = data[:FIELD_BYTES].decode(errors="ignore")
    return kept[: kept.rfind(" ")] if " " in kept else kept


def _join(text: str, lang: str, *, query: bool) -> str:
    return " ".join(map(_safe, analyze(text, lang, query=query)))


def _safe(term: str) -> str:
    """A term that Milvus Lite takes for one word: as it is, or as the digits of its UTF-8."""
    plain = _PLAIN.fullmatch(term) and term == term.lower() and not term.startswith(NO_TERMS)
    return term if plain else NO_TERMS + term.encode().hex()
