"""Keep what is evaluated on out of what is trained on.

Texts are compared after normalisation: equal ones, and passages of one language that share half of the
sampled character 40-grams of the shorter one.
"""

import csv
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.records import read_jsonl
from mretrieve.datasets.source import find_beir_file, open_source
from mretrieve.errors import InputError
from mretrieve.train.pairs import Pair

GRAM = 40
SAMPLE_ONE_IN = 4
"""Of the 40-grams those are kept whose hash ends in two zero bits: the same ones in every text."""

_BASE = 0x9E3779B97F4A7C15 | 1
_MIX = 0xFF51AFD7ED558CCD


def normalize(text: str) -> str:
    """NFKC, case folded, with letters and digits only and one space between words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W_]+", " ", folded).strip()


def sampled_grams(texts: Sequence[str]) -> list[NDArray[np.uint64]]:
    """Hashes of the sampled character 40-grams of normalised texts.

    Returns:
        For each text its different hashes, sorted; none for texts of fewer than 40 characters.
    """
    lengths = [len(text) for text in texts]
    if not sum(lengths):
        return [np.empty(0, np.uint64) for _ in texts]
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32).astype(np.uint64)
    powers = _powers(len(points) + 1)
    with np.errstate(over="ignore"):
        # Hash of a window = (prefix[end] - prefix[start]) / base ** start, all modulo 2 ** 64.
        prefix = np.concatenate([np.zeros(1, np.uint64), np.cumsum(points * powers[:-1], dtype=np.uint64)])
        n_windows = max(len(points) - GRAM + 1, 0)
        inverse = _powers(n_windows, base=pow(_BASE, -1, 1 << 64))
        hashes = (prefix[GRAM:] - prefix[:n_windows]) * inverse
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(_MIX)
        hashes ^= hashes >> np.uint64(29)
    found, start = [], 0
    for length in lengths:
        own = hashes[start : start + max(length - GRAM + 1, 0)] if length >= GRAM else hashes[:0]
        found.append(np.unique(own[own % np.uint64(SAMPLE_ONE_IN) == 0]))
        start += length
    return found


def _powers(n: int, base: int = _BASE) -> NDArray[np.uint64]:
    """Give base ** 0 .. base ** (n - 1), modulo 2 ** 64."""
    with np.errstate(over="ignore"):
        return np.concatenate(
            [np.ones(min(n, 1), np.uint64), np.cumprod(np.full(max(n - 1, 0), base, np.uint64))]
        )


@dataclass
class Evaluated:
    """What is evaluated on: normalised questions, passages by language, and titles of English articles."""

    questions: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    titles: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    grams: dict[str, "_Grams"] = field(default_factory=dict)

    def add_set(self, folder: Path) -> None:
        """Take in an evaluation set of the BEIR layout.

        Raises:
            InputError: it has no corpus, or a file of it is broken.
        """
        self.folders.append(str(folder))
        self.questions |= {normalize(query.text) for query in read_queries(folder)}
        by_language: dict[str, list[str]] = defaultdict(list)
        for document in open_source(folder).documents():
            by_language[document.lang].append(normalize(document.text))
        for language, texts in by_language.items():
            self.add_passages(language, texts)
        self._add_articles(folder)

    def _add_articles(self, folder: Path) -> None:
        """Names of English articles stand in a field of their own, for a title would give answers away."""
        corpus = find_beir_file(folder, "corpus")
        if corpus is None:
            return
        for _, record in read_jsonl(corpus):
            if not isinstance(record, BadRecord) and record.get("article"):
                self.titles.add(normalize(str(record["article"])))

    def add_passages(self, language: str, texts: Sequence[str]) -> None:
        """Take in normalised passages."""
        self.texts |= set(texts)
        before = self.grams.get(language, _Grams())
        self.grams[language] = before.with_more(sampled_grams(texts))

    def add_questions(self, file: Path) -> None:
        """Take in a file of topics, lines of id and text.

        Raises:
            InputError: it is missing or not readable.
        """
        for _, line in read_lines(file):
            if isinstance(line, str) and "\t" in line:
                self.questions.add(
                    normalize(next(csv.reader([line], delimiter="\t", quoting=csv.QUOTE_NONE))[1])
                )

    def leaks(self, language: str, texts: Sequence[str]) -> list[str]:
        """Why each of these normalised texts must not be trained on; empty where it may be."""
        grams = self.grams.get(language, _Grams())
        near = [grams.is_near(own) for own in sampled_grams(texts)]
        return [self._reason(text, is_near) for text, is_near in zip(texts, near, strict=True)]

    def _reason(self, text: str, is_near: bool) -> str:
        if text in self.texts:
            return "equal to an evaluation passage"
        if text in self.questions:
            return "equal to an evaluation question"
        return "nearly equal to an evaluation passage" if is_near else ""


@dataclass(frozen=True)
class _Grams:
    """Sampled grams of many passages, sorted, each with the number of its passage; and how many each has."""

    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    owners: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    sizes: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def with_more(self, passages: Sequence[NDArray[np.uint64]]) -> "_Grams":
        """These and the grams of more passages."""
        sizes = np.array([len(grams) for grams in passages], np.int64)
        owners = np.repeat(np.arange(len(self.sizes), len(self.sizes) + len(sizes)), sizes)
        hashes = np.concatenate([self.hashes, *passages])
        owners = np.concatenate([self.owners, owners])
        order = np.argsort(hashes, kind="stable")
        return _Grams(hashes[order], owners[order], np.concatenate([self.sizes, sizes]))

    def is_near(self, grams: NDArray[np.uint64]) -> bool:
        """Whether some passage shares half of the grams of the shorter of the two."""
        first = np.searchsorted(self.hashes, grams, "left")
        last = np.searchsorted(self.hashes, grams, "right")
        if not (last > first).any():
            return False
        found = np.concatenate([self.owners[a:b] for a, b in zip(first, last, strict=True) if b > a])
        owners, shared = np.unique(found, return_counts=True)
        return bool((2 * shared >= np.minimum(self.sizes[owners], len(grams))).any())


def drop_leaks(pairs: Sequence[Pair], evaluated: Evaluated) -> tuple[list[Pair], Counter[str], list[str]]:
    """Drop pairs of which a text is evaluated on.

    Returns:
        The pairs that are left, how many were dropped for which reason, and the first examples.
    """
    reasons = _reasons(pairs, evaluated)
    kept: list[Pair] = []
    counts: Counter[str] = Counter()
    examples: list[str] = []
    for pair in pairs:
        ends = ((pair.language, pair.anchor), (pair.positive_language, pair.positive), ("en", pair.target))
        why = next((reason for end in ends if (reason := reasons.get(end, ""))), "")
        if pair.title and pair.positive_language == "en" and normalize(pair.title) in evaluated.titles:
            why = "of an article that is evaluated on"
        if not why:
            kept.append(pair)
            continue
        counts[why] += 1
        if len(examples) < 10:
            examples.append(f"{pair.source} {pair.anchor_id} {pair.positive_id}: {why}")
    return kept, counts, examples


def _reasons(pairs: Iterable[Pair], evaluated: Evaluated) -> dict[tuple[str, str], str]:
    by_language: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        by_language[pair.language].add(pair.anchor)
        by_language[pair.positive_language].add(pair.positive)
        if pair.target:
            by_language["en"].add(pair.target)
    reasons: dict[tuple[str, str], str] = {}
    for language, texts in by_language.items():
        ordered = sorted(texts)
        found = evaluated.leaks(language, [normalize(text) for text in ordered])
        reasons |= {(language, text): why for text, why in zip(ordered, found, strict=True) if why}
    return reasons


def drop_duplicates(pairs: Iterable[Pair]) -> tuple[list[Pair], int]:
    """Drop pairs whose two texts both stood in one before, after normalisation.

    Returns:
        The pairs that are left and how many were dropped.
    """
    seen: set[tuple[str, str]] = set()
    kept, dropped = [], 0
    for pair in pairs:
        key = (normalize(pair.anchor), normalize(pair.positive))
        if key in seen or key[0] == key[1]:
            dropped += 1
            continue
        seen.add(key)
        kept.append(pair)
    return kept, dropped


def check_training_folder(folder: Path, splits: Sequence[str], evaluation: Iterable[Path]) -> None:
    """Refuse to train on what is meant for tuning or evaluation.

    Raises:
        InputError: a split that is not `train*`, or a folder that is evaluated on.
    """
    for split in splits:
        if not split.startswith("train"):
            raise InputError(
                f"Split '{split}' of {folder} is not for training: only train* may be trained on."
            )
    if any(folder.resolve() == other.resolve() for other in evaluation):
        raise InputError(f"{folder} is evaluated on, so it must not be trained on.")
