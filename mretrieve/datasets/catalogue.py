"""The benchmarks that have an address: their languages, sizes, licences, and where they are published."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Repository:
    """Where files are published.

    Attributes:
        name: `owner/name`.
        revision: commit or branch.
        host: `hub` (Hugging Face, or what HF_ENDPOINT names), `github`, or `waterloo`, the University of
            Waterloo's GitLab.
    """

    name: str
    revision: str
    host: str = "hub"

    @classmethod
    def parse(cls, text: str) -> "Repository":
        """Read `[HOST:]owner/name[@revision]`."""
        host, colon, rest = text.rpartition(":")
        name, _, revision = rest.partition("@")
        return cls(name, revision or "main", host if colon else "hub")


@dataclass(frozen=True, slots=True)
class LanguageSet:
    """One language of a benchmark, in its official size.

    Attributes:
        passages: documents of the collection.
        splits: split -> (topics, judgements).
        shards: files that the collection is published in.
        name: how the official files call the language, where not by its code.
    """

    passages: int
    splits: Mapping[str, tuple[int, int]]
    shards: int = 1
    name: str = ""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark and its languages.

    Attributes:
        key: the first part of its addresses.
        title: its name.
        about: what it holds, in a line.
        licence: of topics and judgements, and of the passages where they differ.
        paper: where it is described.
        split: the judged split that publications report, meant where an address names none.
        measures: what publications report.
        repositories: part -> where its files are published.
        languages: ISO 639-1 code -> its sizes.
        pooled: whether all languages are one collection, with one address.
    """

    key: str
    title: str
    about: str
    licence: str
    paper: str
    split: str
    measures: tuple[str, ...]
    repositories: Mapping[str, Repository]
    languages: Mapping[str, LanguageSet]
    pooled: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits that some language has, the default one first."""
        names = [self.split, *(name for entry in self.languages.values() for name in entry.splits)]
        return tuple(dict.fromkeys(names))

    @property
    def passages(self) -> int:
        """Documents in all languages."""
        return sum(entry.passages for entry in self.languages.values())


@cache
def benchmarks() -> Mapping[str, Benchmark]:
    """All benchmarks by their key, as `catalogue.yaml` lists them."""
    text = files(__package__).joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return {key: _benchmark(key, entry) for key, entry in yaml.safe_load(text).items()}


def addresses() -> list[str]:
    """Every address of a benchmark, with and without its split."""
    found = []
    for key, benchmark in benchmarks().items():
        if benchmark.pooled:
            found += [key, *(f"{key}/{split}" for split in benchmark.splits)]
            continue
        for lang, entry in benchmark.languages.items():
            found += [f"{key}/{lang}", *(f"{key}/{lang}/{split}" for split in entry.splits)]
    return found


def _benchmark(key: str, entry: dict[str, Any]) -> Benchmark:
    repositories = {part: Repository.parse(text) for part, text in entry.pop("repositories").items()}
    languages = {
        code: LanguageSet(**{**one, "splits": {split: tuple(n) for split, n in one["splits"].items()}})
        for code, one in entry.pop("languages").items()
    }
    measures = tuple(entry.pop("measures"))
    return Benchmark(key, measures=measures, repositories=repositories, languages=languages, **entry)
