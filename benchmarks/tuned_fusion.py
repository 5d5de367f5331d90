"""Fusion weights learned by language on tuning splits, held against RRF and the default on test sets.

`python benchmarks/tuned_fusion.py` learns as `mretrieve tune` does on the dev questions of `train/*` (each
set against passages of its own, as in `benchmarks/fusion.py`), and measures nDCG@10 on XQuAD and on TyDi QA's
test questions, of which nothing is looked at before. Languages without tuning questions take the default. A
second table holds each language's hybrid, over all its test sets, against the better of its legs.
`results/tuned_fusion.json` gets all figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import RESULTS, XQUAD, arguments, index_once, need, print_table, read_topics, write_json
from fusion import CROSS, bm25_beside_vectors, pool_passages, rank_alone, sample_split, tuning_splits
from numpy.typing import NDArray
from vectors import VectorStore

from mretrieve.encode.encoder import Encoder
from mretrieve.evaluate.measures import evaluate
from mretrieve.evaluate.significance import compare
from mretrieve.rank.fusion import Fusion, Ranking
from mretrieve.rank.ranked import Ranked
from mretrieve.rank.retriever import DEPTH, Retriever
from mretrieve.rank.tune import LEAST_QUERIES, MEASURE, Question, as_questions, learn_weights
from mretrieve.rank.tuning import TunedLanguage
from mretrieve.types import Qrels, Query

TYDI = ("ar", "en", "id", "ko", "sw")
RRF = Fusion.parse("rrf:60")
SYSTEMS = ("bm25", "dense", "rrf", "default", "tuned")


@dataclass(frozen=True)
class Judged:
    """Questions with what the legs found, their judgements and language."""

    name: str
    lang: str
    questions: list[Question]
    qrels: Qrels


def main() -> None:
    """Learn, measure, print the table and write the figures."""
    options = arguments(__doc__).parse_args()
    store = VectorStore(Encoder("e5-small"))
    learned = learn(tuning_sets(need(options.data / "train"), store))
    tests = test_sets(options.data, store)
    values = {one.name: measure(one, learned.get(one.lang)) for one in tests}
    rows: list[list[object]] = [
        [one.name, learned[one.lang].fusion if one.lang in learned else "-", *_means(values[one.name])]
        for one in tests
    ]
    for label, prefix in (("mean of XQuAD", "xquad"), ("mean of TyDi QA", "tydi"), ("mean of both", "")):
        chosen = [_means(values[one.name]) for one in tests if one.name.startswith(prefix)]
        rows.append([label, "", *(float(mean) for mean in np.mean(chosen, axis=0))])
    print_table(["test set", "learned", *SYSTEMS], rows)
    languages = by_language(tests, values)
    print_table(
        ["language", "better leg", "alone", "tuned", "difference", "low", "high", "p"],
        [[lang, *figures.values()] for lang, figures in languages.items()],
    )
    compared = comparisons(tests, values)
    figures = {
        "tuning": {lang: _as_dict(entry) for lang, entry in learned.items()},
        "test": {str(row[0]): dict(zip(SYSTEMS, row[2:], strict=True)) for row in rows},
        "languages": languages,
        "comparisons": compared,
    }
    for label, result in compared.items():
        print(f"{label}: {result}")
    write_json(options.json or RESULTS / "tuned_fusion.json", figures)


def tuning_sets(train: Path, store: VectorStore) -> list[Judged]:
    """The dev questions of each set, sampled, with the legs' rankings of the set's own passages."""
    sets = {name: sample_split(train / name, split) for name, split in tuning_splits(train).items()}
    pooled = Retriever(index_once(pool_passages(list(sets.values()))))
    made = []
    for name, folder in sets.items():
        if name in CROSS:
            continue
        queries, qrels = read_topics(folder, "sample")
        retriever = Retriever(bm25_beside_vectors(folder, name[:2]))
        ranked = rank_alone(retriever, pooled, queries, store)
        made.append(Judged(name, name[:2], as_questions(retriever, queries, ranked), qrels))
    return made


def learn(sets: Sequence[Judged]) -> dict[str, TunedLanguage]:
    """What is learned for each language from all its sets."""
    learned = {}
    for lang in sorted({one.lang for one in sets}):
        own = [one for one in sets if one.lang == lang]
        questions = [question for one in own for question in one.questions]
        qrels = {query_id: judged for one in own for query_id, judged in one.qrels.items()}
        if len(questions) >= LEAST_QUERIES:
            learned[lang] = learn_weights(questions, qrels, Fusion())
    return learned


def test_sets(data: Path, store: VectorStore) -> list[Judged]:
    """XQuAD and TyDi QA with both legs' rankings."""
    folders = {f"xquad {lang}": data / "xquad" / lang for lang in XQUAD}
    folders |= {f"tydi {lang}": data / "eval" / f"{lang}-tydiqa" for lang in TYDI}
    made = []
    for name, folder in folders.items():
        queries, qrels = read_topics(need(folder), "test")
        retriever = Retriever(bm25_beside_vectors(folder, name[-2:]))
        ranked = rank_with_vectors(retriever, queries, store)
        made.append(Judged(name, name[-2:], as_questions(retriever, queries, ranked), qrels))
    return made


def rank_with_vectors(retriever: Retriever, queries: Sequence[Query], store: VectorStore) -> list[Ranked]:
    """Both legs: BM25 on an index of its own, and vectors from the cache."""
    import faiss

    documents = retriever.index.documents.get(range(len(retriever.index.documents)))
    vectors = store.documents([document.contents for document in documents])
    asked = store.queries([query.text for query in queries])
    scores, rows = faiss.knn(asked, vectors, min(DEPTH, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
    bm25 = [one.ranking for one in retriever.rank(queries, mode="bm25")]
    return [
        Ranked(leg, dense=Ranking(row, score), bm25=leg)
        for row, score, leg in zip(rows, scores, bm25, strict=True)
    ]


def measure(one: Judged, tuned: TunedLanguage | None) -> dict[str, NDArray[np.float64]]:
    """nDCG@10 of each system for each question, (n_questions,)."""
    default = Fusion()
    fusions = {"rrf": RRF, "default": default, "tuned": Fusion.parse(tuned.fusion) if tuned else default}
    values = {}
    for system in SYSTEMS:
        run = {}
        for question in one.questions:
            legs = question.ranked
            assert legs.dense is not None and legs.bm25 is not None
            if system in fusions:
                ranking = fusions[system].fuse(legs.dense, legs.bm25)
            else:
                ranking = legs.dense if system == "dense" else legs.bm25
            run[question.query_id] = question.run(ranking)
        per_query = evaluate(run, one.qrels, [MEASURE]).per_query
        values[system] = np.array([per_query[question.query_id][MEASURE] for question in one.questions])
    return values


def comparisons(
    tests: Sequence[Judged], values: Mapping[str, Mapping[str, NDArray[np.float64]]]
) -> dict[str, dict[str, float]]:
    """The tuned hybrid against RRF and the default: the mean of all sets, questions drawn together."""
    groups = [one.name for one in tests for _ in one.questions]
    # XQuAD's questions are parallel: `de-q0007` and `th-q0007` are one.
    clusters = [
        question.query_id.split("-", 1)[1] if one.name.startswith("xquad") else question.query_id
        for one in tests
        for question in one.questions
    ]
    found = {}
    for other in ("rrf", "default"):
        first, second = (
            np.concatenate([values[one.name][name] for one in tests]) for name in (other, "tuned")
        )
        result = compare(first, second, groups=groups, clusters=clusters)
        found[f"tuned against {other}"] = {
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "p": result.p_value,
        }
    return found


def by_language(
    tests: Sequence[Judged], values: Mapping[str, Mapping[str, NDArray[np.float64]]]
) -> dict[str, dict[str, str | float]]:
    """Each language's tuned hybrid against the better of its legs: the mean of the language's test sets."""
    found: dict[str, dict[str, str | float]] = {}
    for lang in sorted({one.lang for one in tests}):
        own = [one.name for one in tests if one.lang == lang]
        means = {leg: float(np.mean([values[name][leg].mean() for name in own])) for leg in ("dense", "bm25")}
        better = max(means, key=lambda leg: means[leg])
        alone, tuned = (
            np.concatenate([values[name][system] for name in own]) for system in (better, "tuned")
        )
        result = compare(alone, tuned, groups=[name for name in own for _ in values[name]["tuned"]])
        found[lang] = {
            "better leg": better,
            "alone": means[better],
            "tuned": means[better] + result.difference,
            "difference": result.difference,
            "low": result.low,
            "high": result.high,
            "p": result.p_value,
        }
    return found


def _means(values: Mapping[str, NDArray[np.float64]]) -> list[float]:
    return [float(values[system].mean()) for system in SYSTEMS]


def _as_dict(entry: TunedLanguage) -> dict[str, object]:
    return {name: getattr(entry, name) for name in entry.__slots__}


if __name__ == "__main__":
    main()
