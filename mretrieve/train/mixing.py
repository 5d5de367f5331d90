"""Entries of a question and scored passages, with passages in other languages put in their places.

Yang et al., 2024, Multilingual Translate-Distill (arXiv:2405.00977). A teacher has scored the candidates in a
language that it knows; the student meets them in others, and learns the same scores.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from mretrieve.train.translating import text_id

Way = Literal["mix-passages", "mix-entries", "round-robin"]

Entry = Mapping[str, Any]
"""Row of a data set: `anchor`, `positive`, `negative_1` and so on, with their languages."""


class Versions:
    """What texts are in other languages."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, str]] = defaultdict(dict)

    def add(self, identifier: str, language: str, text: str) -> None:
        """Take in a version of the text with this `text_id`; the first one of a language counts."""
        self._found[identifier].setdefault(language, text)

    def add_pairs(self, pairs: Iterable[Entry]) -> None:
        """Take in pairs whose two texts say the same."""
        for pair in pairs:
            self.add(text_id(pair["language"], pair["anchor"]), pair["positive_language"], pair["positive"])

    def add_groups(self, pairs: Iterable[Entry]) -> None:
        """Take in passages of one group in different languages, where a language has a single one."""
        groups: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for pair in pairs:
            groups[pair["group"]][pair["positive_language"]].add(pair["positive"])
        for languages in groups.values():
            single = {language: next(iter(texts)) for language, texts in languages.items() if len(texts) == 1}
            for language, text in single.items():
                for other, version in single.items():
                    if other != language:
                        self.add(text_id(language, text), other, version)

    def of(self, language: str, text: str, languages: Collection[str]) -> dict[str, str]:
        """By language the versions of a text, itself among them, as far as they are wanted.

        Args:
            language: of the text.
            text: itself.
            languages: that are wanted; empty for all.
        """
        found = {language: text} | self._found.get(text_id(language, text), {})
        return {code: one for code, one in found.items() if not languages or code in languages}


def mix_entries(
    entries: Iterable[Entry],
    versions: Versions,
    way: Way,
    *,
    languages: Sequence[str] = (),
    questions: bool = False,
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Give entries with their passages in languages that are drawn.

    `mix-passages` draws a language for every passage, `mix-entries` one for all passages of an entry,
    `round-robin` repeats an entry in each language. Only languages are drawn that a text has a version in
    (all texts of the entry, where it is to be in one); an entry without any stays as it is.

    Args:
        entries: rows.
        versions: of their texts.
        way: see above.
        languages: that may be drawn; all without any.
        questions: draw a language for the question too.
        seed: of what is drawn.
    """
    draw = random.Random(seed)
    for entry in entries:
        sides = [(entry["positive_language"], entry["positive"])]
        sides += [
            (code, entry[f"negative_{place}"]) for place, code in enumerate(entry["negative_languages"], 1)
        ]
        found = [versions.of(code, text, languages) for code, text in sides]
        asked = versions.of(entry["language"], entry["anchor"], languages) if questions else {}
        for chosen in _choose(found, way, draw):
            passages = [
                (code, own[code]) if code in own else side
                for code, own, side in zip(chosen, found, sides, strict=True)
            ]
            yield _with(entry, passages, asked, draw)


def _choose(found: Sequence[Mapping[str, str]], way: Way, draw: random.Random) -> Iterator[list[str]]:
    """Languages of an entry's passages, once or several times; empty for one that stays as it is."""
    if way == "mix-passages":
        yield [draw.choice(sorted(own)) if own else "" for own in found]
        return
    common = sorted(set(found[0]).intersection(*found[1:])) or [""]
    for code in common if way == "round-robin" else [draw.choice(common)]:
        yield [code] * len(found)


def _with(
    entry: Entry, passages: Sequence[tuple[str, str]], asked: Mapping[str, str], draw: random.Random
) -> dict[str, Any]:
    (positive_language, positive), *negatives = passages
    row = dict(entry) | {"positive": positive, "positive_language": positive_language}
    for place, (_, text) in enumerate(negatives, start=1):
        row[f"negative_{place}"] = text
    row["negative_languages"] = [code for code, _ in negatives]
    if asked:
        row["language"] = draw.choice(sorted(asked))
        row["anchor"] = asked[row["language"]]
    return row
