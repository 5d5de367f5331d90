"""BM25 by language: which terms, which k1 and b, chosen on tuning splits, and what each choice gains.

`python benchmarks/bm25.py` takes each set of `train/*` with dev questions, and searches its passages by the
terms of the language's own analyzer (Anserini's, where it has one), by XLM-R pieces, and by both (the sum of
their scores). First the terms are chosen at Anserini's k1 and b, then k1 and b. A choice differs from the
default only where the questions can tell the two apart by a standard error (`mretrieve.rank.tune.choose`).

Gains are told on the tuning questions (`dev`), on halves of them that the choice did not see (`held out`),
and on test questions of the same language. `results/bm25.json` gets all figures.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    RESULTS,
    XQUAD,
    arguments,
    format_table,
    need,
    print_table,
    read_topics,
    write_json,
)
from numpy.typing import NDArray

from mretrieve.cache import cache_folder, make_once
from mretrieve.datasets.source import open_source
from mretrieve.encode.pieces import cut_into_pieces
from mretrieve.evaluate.measures import evaluate
from mretrieve.evaluate.significance import compare, holm
from mretrieve.index.analyzers import analyzer_of
from mretrieve.index.lucene import LexicalIndex, LexicalWriter
from mretrieve.rank.tune import MEASURE, choose
from mretrieve.types import Qrels, Query, Run

TERMS = ("language", "pieces", "both")
DEFAULT = (0.9, 0.4)
GRID = tuple((k1, b) for k1 in (0.6, 0.9, 1.2, 1.6, 2.0) for b in (0.2, 0.4, 0.6, 0.75, 0.9))
QUESTIONS, DEPTH, FOLDS, SEED = 300, 200, 20, 13
TYDI = ("en", "id", "ko", "sw")

TEST_COLUMNS = (*TERMS, "chosen", "chosen, with k1 and b")

HEADER = (
    *("language", "questions", *TERMS, "p (Holm)", "terms chosen", "gain held out", "k1", "b"),
    *("gain held out", *(f"test: {name}" for name in TEST_COLUMNS)),
)

NOTES = """# BM25 by language

nDCG@10 on tuning questions of the terms of the language's own analyzer, of XLM-R pieces, and of both; p is
of both against the analyzer's. What is chosen on them stands with what it gains on halves of the questions
that the choice did not see: first the terms, then k1 and b. `test` are means of the language's test sets,
never looked at before. Made by `python benchmarks/bm25.py`; what the terms do beside vectors is in
`bm25_hybrid.json`.

"""

Values = NDArray[np.float64]

Figures = dict[str, Any]
"""What is told of one language, as it goes into JSON."""


@dataclass(frozen=True)
class Collection:
    """Passages with questions of one language, and the folders of their indexes."""

    name: str
    lang: str
    queries: tuple[Query, ...]
    qrels: Qrels
    doc_ids: tuple[str, ...]
    indexes: dict[str, Path]


@dataclass(frozen=True)
class Choice:
    """Terms, k1 and b."""

    terms: str
    k1: float = DEFAULT[0]
    b: float = DEFAULT[1]


def main() -> None:
    """Choose, measure, print the table and write the figures."""
    options = arguments(__doc__).parse_args()
    train = need(options.data / "train")
    folders = [folder for folder in sorted(train.iterdir()) if (folder / "qrels" / "dev.tsv").exists()]
    folders = [folder for folder in folders if not folder.name.startswith("multi-")]
    figures: dict[str, Figures] = {}
    for lang in sorted({folder.name[:2] for folder in folders}):
        print(f"{lang} ...", file=sys.stderr)
        own = [collection(folder, "dev", lang) for folder in folders if folder.name.startswith(f"{lang}-")]
        tests = [collection(folder, "test", lang) for folder in test_folders(options.data, folders, lang)]
        figures[lang] = choose_for(own, tests)
    print_table(HEADER, rows_of(figures))
    path = options.json or RESULTS / "bm25.json"
    write_json(path, figures)
    path.with_suffix(".md").write_text(markdown(figures), encoding="utf-8")


def choose_for(own: Sequence[Collection], tests: Sequence[Collection]) -> Figures:
    """Both choices for one language, with what they gain."""
    terms = [Choice(name) for name in available_terms(own[0].lang)]
    by_terms = values_of(terms, own)
    chosen = terms[choose(by_terms, floor=0.0)]
    k1_b = [Choice(chosen.terms, *pair) for pair in sorted(GRID, key=_from_default)]
    by_k1_b = values_of(k1_b, own)
    best = k1_b[choose(by_k1_b, floor=0.0)]
    on_tests = {one.name: _named(terms, values_of(terms, [one])) for one in tests}
    for one in tests:
        on_tests[one.name]["chosen"] = on_tests[one.name][chosen.terms]
        on_tests[one.name]["chosen, with k1 and b"] = float(values_of([best], [one]).mean())
    return {
        "questions": int(by_terms.shape[1]),
        "dev": _named(terms, by_terms),
        "terms": chosen.terms,
        "terms gain held out": held_out_gain(by_terms),
        "k1": best.k1,
        "b": best.b,
        "dev with k1 and b": float(by_k1_b[k1_b.index(best)].mean()),
        "k1 and b gain held out": held_out_gain(by_k1_b),
        "tests": on_tests,
        "both against language": _compared(by_terms) if len(terms) > 1 else None,
    }


def _named(choices: Sequence[Choice], values: Values) -> dict[str, float]:
    return {choice.terms: float(mean) for choice, mean in zip(choices, values.mean(axis=1), strict=True)}


def _compared(by_terms: Values) -> dict[str, float]:
    """Both terms against the language's own, on the tuning questions; nothing is chosen here."""
    result = compare(by_terms[0], by_terms[TERMS.index("both")])
    return {"difference": result.difference, "low": result.low, "high": result.high, "p": result.p_value}


def available_terms(lang: str) -> tuple[str, ...]:
    """What there is to choose from; where there is no analyzer, the language's own terms are pieces."""
    return ("pieces",) if analyzer_of(lang).kind == "pieces" else TERMS


def held_out_gain(values: Values) -> float:
    """What a choice gains over the first candidate on the half of the questions that it was not made on.

    Args:
        values: (n_candidates, n_questions).
    """
    random = np.random.default_rng(SEED)
    gains = []
    for _ in range(FOLDS):
        order = random.permutation(values.shape[1])
        half = len(order) // 2
        for seen, unseen in ((order[:half], order[half:]), (order[half:], order[:half])):
            chosen = choose(values[:, seen], floor=0.0)
            gains.append(float((values[chosen, unseen] - values[0, unseen]).mean()))
    return float(np.mean(gains))


def values_of(choices: Sequence[Choice], collections: Sequence[Collection]) -> Values:
    """nDCG@10, (n_choices, n_questions), of the questions of all collections."""
    return np.array([np.concatenate([_values(one, choice) for one in collections]) for choice in choices])


def _values(one: Collection, choice: Choice) -> Values:
    kinds = ("language", "pieces") if choice.terms == "both" else (choice.terms,)
    run: Run = {}
    for kind in kinds:
        for query, hits in zip(one.queries, search(one, kind, choice.k1, choice.b), strict=True):
            scores = run.setdefault(query.query_id, {})
            for doc_id, score in hits.items():
                scores[doc_id] = scores.get(doc_id, 0.0) + score
    found = {query_id: scores for query_id, scores in run.items() if scores}
    per_query = evaluate(found, one.qrels, [MEASURE]).per_query
    return np.array([per_query[query.query_id][MEASURE] for query in one.queries])


def search(one: Collection, kind: str, k1: float, b: float) -> list[dict[str, float]]:
    """The best documents of each question by one kind of terms: doc_id -> score."""
    lang = "" if kind == "pieces" else one.lang
    with LexicalIndex(one.indexes[kind], lang, cut=cut_into_pieces, k1=k1, b=b) as index:
        found = index.search_many([query.text for query in one.queries], DEPTH)
    return [
        {one.doc_ids[row]: score for row, score in zip(rows.tolist(), scores.tolist(), strict=True)}
        for rows, scores in found
    ]


@cache
def collection(folder: Path, split: str, lang: str) -> Collection:
    """A set with at most `QUESTIONS` of a split's questions in the language, and its indexes."""
    queries, qrels = read_topics(need(folder), split)
    queries = queries[:: -(-len(queries) // QUESTIONS)]
    documents = list(open_source(folder).documents())
    digest = open_source(folder).fingerprint()[:12]
    indexes = {}
    for kind in ("language", "pieces"):

        def fill(target: Path, kind: str = kind) -> None:
            with LexicalWriter(target, "" if kind == "pieces" else lang, cut=cut_into_pieces) as writer:
                writer.add([document.contents for document in documents])

        name = f"{folder.parent.name}-{folder.name}-{kind}-{digest}"
        indexes[kind] = make_once(cache_folder() / "benchmarks" / "bm25" / name, fill)
    judged = {query.query_id: qrels[query.query_id] for query in queries}
    doc_ids = tuple(document.doc_id for document in documents)
    return Collection(f"{folder.name} {split}", lang, tuple(queries), judged, doc_ids, indexes)


def test_folders(data: Path, folders: Sequence[Path], lang: str) -> list[Path]:
    """Folders with a test split in the language."""
    own = [folder for folder in folders if folder.name.startswith(f"{lang}-")]
    found = [folder for folder in own if (folder / "qrels" / "test.tsv").exists()]
    found += [data / "eval" / f"{lang}-tydiqa"] if lang in TYDI else []
    return found + ([data / "xquad" / lang] if lang in XQUAD else [])


def _from_default(pair: tuple[float, float]) -> float:
    return abs(float(np.log(pair[0] / DEFAULT[0]))) + abs(pair[1] - DEFAULT[1])


def markdown(figures: dict[str, Figures]) -> str:
    """The table with what its columns are."""
    return f"{NOTES}{format_table(HEADER, rows_of(figures), digits=3)}\n"


def rows_of(figures: dict[str, Figures]) -> list[list[object]]:
    """The table; p-values of `both` against `language` are corrected for the number of languages."""
    compared = [lang for lang, found in figures.items() if found["both against language"]]
    p_values = holm([figures[lang]["both against language"]["p"] for lang in compared])
    rows: list[list[object]] = []
    for lang, found in figures.items():
        p_value = f"{p_values[compared.index(lang)]:.3f}" if lang in compared else ""
        chosen = [found["terms"], found["terms gain held out"], str(found["k1"]), str(found["b"])]
        tests = list(found["tests"].values())
        means = [
            float(np.mean([one[name] for one in tests])) if tests and name in tests[0] else ""
            for name in TEST_COLUMNS
        ]
        dev = [found["dev"].get(name, "") for name in TERMS]
        rows.append(
            [lang, found["questions"], *dev, p_value, *chosen, found["k1 and b gain held out"], *means]
        )
    with_both = [row for row in rows if row[0] in compared]
    means = [_mean(with_both, column) for column in range(2, len(rows[0]))]
    return [*rows, ["mean", "", *means]]


def _mean(rows: Sequence[Sequence[object]], column: int) -> float | str:
    """Of the languages with a choice; a column of the table with other than numbers has none."""
    numbers = [row[column] for row in rows if isinstance(row[column], float)]
    return float(np.mean([float(str(one)) for one in numbers])) if numbers else ""


if __name__ == "__main__":
    main()
