"""What a smaller model kept: retrieval of translations, language by language, and speed."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from mretrieve.understand.parallel import ParallelText
from mretrieve.understand.running import TextModel

Progress = Callable[[str, int, int | None], None]
Vectors = NDArray[np.float32]

_SPEED_TOKENS = 4096
_BLOCK = 1024


@dataclass(frozen=True)
class LanguageQuality:
    """One language before and after.

    Accuracy is the share of texts whose nearest neighbour among all texts of the other language is their
    own translation, averaged over both directions; None for English itself.

    Attributes:
        lang: label of the language.
        kept: whether the smaller model is meant for it.
        accuracy_before: language and English, both of the old model.
        accuracy_after: both of the new model.
        accuracy_against_old: the language of the new model, English of the old one; it shows what a
            language kept where the new model is not meant for English.
        cosine: mean between a text's embeddings by the new and the old model.
        tokens_ratio: tokens that the new tokenizer makes, divided by those of the old one.
    """

    lang: str
    kept: bool
    accuracy_before: float | None
    accuracy_after: float | None
    accuracy_against_old: float | None
    cosine: float
    tokens_ratio: float


@dataclass(frozen=True)
class Speed:
    """Texts of the kept languages per second, by the old model and the new one, run in turns."""

    before: float
    after: float

    @property
    def ratio(self) -> float:
        """How many times as fast the new model is."""
        return self.after / self.before


def bitext_accuracy(a: Vectors, b: Vectors) -> float:
    """How often row i of one is nearest to row i of the other, averaged over both directions.

    Args:
        a: (n, dim), unit length.
        b: (n, dim), unit length; row i says the same as row i of `a`.
    """
    return (_found(a, b) + _found(b, a)) / 2


def _found(queries: Vectors, documents: Vectors) -> float:
    right = 0
    for start in range(0, len(queries), _BLOCK):
        scores = queries[start : start + _BLOCK] @ documents.T
        own = scores[np.arange(len(scores)), np.arange(start, start + len(scores))]
        # A text that scores as high as the translation does, such as a copy of it, is no miss.
        right += int((scores.max(axis=1) <= own).sum())
    return right / len(queries)


def measure_quality(
    before: TextModel,
    after: TextModel,
    text: ParallelText,
    *,
    kept: Collection[str],
    on_progress: Progress | None = None,
) -> list[LanguageQuality]:
    """Compare two models on parallel text.

    Args:
        before: the old model.
        after: the new one.
        text: languages to test, English among them.
        kept: codes of the languages that the new model is meant for.
        on_progress: called with what is done, languages done, and languages in all.

    Returns:
        One entry for each language, in order.
    """
    old_english = before.embed(text.texts["en"], lang="en")
    new_english = after.embed(text.texts["en"], lang="en")
    results = []
    for done, (label, texts) in enumerate(text.texts.items(), start=1):
        code = text.codes[label]
        old = old_english if label == "en" else before.embed(texts, lang=code)
        new = new_english if label == "en" else after.embed(texts, lang=code)
        is_english = label == "en"
        results.append(
            LanguageQuality(
                lang=label,
                kept=code in kept,
                accuracy_before=None if is_english else bitext_accuracy(old, old_english),
                accuracy_after=None if is_english else bitext_accuracy(new, new_english),
                accuracy_against_old=None if is_english else bitext_accuracy(new, old_english),
                cosine=float((old * new).sum(axis=1).mean()),
                tokens_ratio=_n_tokens(after, texts) / _n_tokens(before, texts),
            )
        )
        if on_progress is not None:
            on_progress("testing", done, len(text.texts))
    return results


def measure_speed(
    before: TextModel, after: TextModel, texts: Sequence[str], *, lang: str = "", rounds: int = 5
) -> Speed:
    """Time both models on the same texts, in turns, so that whatever else the machine does hits both.

    Args:
        before: the old model.
        after: the new one.
        texts: of the kept languages; the first are used, some 4,000 tokens.
        lang: their language, where it is one.
        rounds: the median of so many is taken, after one that does not count.
    """
    lengths = np.cumsum([len(ids) for ids in before.ids(texts)])
    texts = texts[: max(int(np.searchsorted(lengths, _SPEED_TOKENS)), 1)]
    seconds: dict[str, list[float]] = {"before": [], "after": []}
    for turn in range(rounds + 1):
        for name, model in (("before", before), ("after", after)):
            start = time.perf_counter()
            model.embed(texts, lang=lang)
            taken = time.perf_counter() - start
            if turn:
                seconds[name].append(taken)
    return Speed(*(len(texts) / median(seconds[name]) for name in ("before", "after")))


def _n_tokens(model: TextModel, texts: Sequence[str]) -> int:
    return sum(len(ids) for ids in model.ids(texts))
