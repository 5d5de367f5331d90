"""Which terms BM25 goes by in each language where nobody says so: what was best on questions kept for tuning.

There are the terms of the language's own analyzer, the pieces of a multilingual vocabulary, and both, whose
scores are added up. BM25 alone is best by both; fused with embeddings, which see pieces themselves, it is so
in most families of languages, but not in all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Terms = Literal["analyzer", "pieces", "both"]
"""What a language's BM25 goes by; `both` adds up the scores of the two."""

TermsChoice = Literal["auto", "analyzer", "pieces", "both"]
"""What can be asked for; `auto` is by `MEASURED`."""

FAMILIES = {
    "Baltic": ("lt", "lv"),
    "Basque": ("eu",),
    "Chinese": ("zh", "yue"),
    "Germanic": ("da", "de", "en", "nl", "nn", "no", "sv"),
    "Greek, Armenian, Irish": ("el", "ga", "hy"),
    "Indic, Dravidian": ("bn", "hi", "ne", "ta", "te"),
    "Indonesian": ("id",),
    "Iranian": ("ckb", "fa"),
    "Japanese": ("ja",),
    "Korean": ("ko",),
    "Romance": ("ca", "es", "fr", "gl", "it", "pt", "ro"),
    "Semitic": ("ar",),
    "Slavic": ("bg", "cs", "pl", "ru", "sr", "uk"),
    "Turkic": ("tr",),
    "Uralic": ("et", "fi", "hu"),
}
"""Of the languages that have an analyzer of Lucene."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What tuning questions say of a family of languages.

    Attributes:
        questions: how many.
        bm25_gain: nDCG@10 of BM25 by both kinds of terms, less that by the analyzer's.
        hybrid_gain: the same of the default fusion with e5-small.
        alone: what BM25 goes by where an index has nothing else.
        fused: what it goes by beside vectors.
    """

    questions: int
    bm25_gain: float
    hybrid_gain: float
    alone: Terms = "both"
    fused: Terms = "both"


OVERALL = Measured(2593, 0.0184, 0.0055)
"""Of all families together, which holds for those without questions."""

MEASURED: Mapping[str, Measured] = {
    "Chinese": Measured(150, 0.0136, -0.0078, fused="analyzer"),
    "Germanic": Measured(1250, 0.0172, 0.0052),
    "Indonesian": Measured(150, 0.0263, -0.0002),
    "Iranian": Measured(150, 0.0049, 0.0058),
    "Japanese": Measured(150, -0.0036, 0.0020),
    "Korean": Measured(80, 0.0454, 0.0111),
    "Romance": Measured(213, 0.0200, -0.0138, fused="analyzer"),
    "Slavic": Measured(150, 0.0299, 0.0088),
    "Turkic": Measured(300, 0.0258, 0.0282),
}
"""By `benchmarks/bm25_hybrid.py`; a family differs from all together where a standard error says so."""

_FAMILY_OF = {lang: family for family, members in FAMILIES.items() for lang in members}


def terms_for(lang: str, choice: str, *, has_vectors: bool) -> Terms:
    """What a language's BM25 shall go by.

    Args:
        lang: ISO 639-1 code, or 639-3 where there is none; empty if unknown.
        choice: see `TermsChoice`.
        has_vectors: whether the index has vectors too, so that BM25 is half of a hybrid search.

    Raises:
        ValueError: there is no such choice.
    """
    if choice == "auto":
        family = _FAMILY_OF.get(lang)
        if family is None:  # cut in Python, into what was measured against pieces already
            return "analyzer"
        measured = MEASURED.get(family, OVERALL)
        return measured.fused if has_vectors else measured.alone
    if choice in ("analyzer", "pieces", "both"):
        return choice  # type: ignore[return-value]
    raise ValueError(f"BM25 has no terms {choice!r}. Choose from: auto, analyzer, pieces, both.")
