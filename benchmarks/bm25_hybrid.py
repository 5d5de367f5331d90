"""What the terms of BM25 do to hybrid search, on the tuning splits only.

`python benchmarks/bm25_hybrid.py` takes the samples of `benchmarks/fusion.py` (of each set of `train/*` with
dev questions) and ranks each set's passages by BM25, and by the default fusion of BM25 with e5-small, once
for each kind of terms: the language's own analyzer, XLM-R pieces, and both. It prints nDCG@10 by language,
and what `both` gains over the analyzer by families of languages.

`mretrieve.index.terms` has its choices from here: what is best for all questions together, and for a family
something else only where its own questions tell the two apart by a standard error (`mretrieve.rank.tune`).
`results/bm25_hybrid.json` gets all figures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from common import RESULTS, arguments, index_once, need, print_table, read_topics, write_json
from fusion import CROSS, pool_passages, rank_alone, sample_split, tuning_splits
from numpy.typing import NDArray
from vectors import VectorStore

from mretrieve.encode.encoder import Encoder
from mretrieve.evaluate.measures import evaluate
from mretrieve.evaluate.significance import compare
from mretrieve.index.analyzers import analyzer_of
from mretrieve.index.terms import FAMILIES, Terms
from mretrieve.rank.fusion import Fusion, Ranking
from mretrieve.rank.retriever import Retriever
from mretrieve.rank.tune import MEASURE, choose
from mretrieve.recipe import Bm25Part, Recipe
from mretrieve.types import Qrels, Run

TERMS: tuple[Terms, ...] = ("analyzer", "pieces", "both")
LEGS = ("bm25", "hybrid")
COLUMNS = ("gain", "low", "high", "p", "terms")

Values = NDArray[np.float64]

Questions = dict[tuple[str, Terms], Values]
"""(leg, terms) -> nDCG@10 of each question."""


def main() -> None:
    """Print the tables and write the figures."""
    options = arguments(__doc__).parse_args()
    train = need(options.data / "train")
    folders = {name: sample_split(train / name, split) for name, split in tuning_splits(train).items()}
    pooled = Retriever(
        index_once(pool_passages(list(folders.values())), Recipe(bm25=Bm25Part(terms="analyzer")))
    )
    store = VectorStore(Encoder("e5-small"))
    by_language: dict[str, list[Questions]] = {}
    for name, folder in folders.items():
        if name not in CROSS:
            by_language.setdefault(name[:2], []).append(measure(folder, pooled, store))
    languages = {lang: joined(sets) for lang, sets in by_language.items()}
    rows = rows_of(languages)
    header = [f"{leg} {terms}" for leg in LEGS for terms in TERMS]
    print_table(["language", "questions", *header], rows)
    # Where there is no analyzer there is nothing to choose.
    families = family_gains(
        {lang: one for lang, one in languages.items() if analyzer_of(lang).kind != "pieces"}
    )
    print_table(
        ["family", "questions", *(f"{leg} {what}" for leg in LEGS for what in COLUMNS)],
        families,
    )
    write_json(options.json or RESULTS / "bm25_hybrid.json", {"languages": rows, "families": families})


def measure(folder: Path, pooled: Retriever, store: VectorStore) -> Questions:
    """nDCG@10 of each question of a sampled set, by leg and terms."""
    queries, qrels = read_topics(folder, "sample")
    found: Questions = {}
    for terms in TERMS:
        recipe = Recipe(encoder=None, bm25=Bm25Part(terms=terms))
        alone = Retriever(index_once(folder, recipe, name="bm25-"))
        runs: dict[str, Run] = {leg: {} for leg in LEGS}
        for query, one in zip(queries, rank_alone(alone, pooled, queries, store), strict=True):
            assert one.dense is not None and one.bm25 is not None
            for leg, ranking in (("bm25", one.bm25), ("hybrid", Fusion().fuse(one.dense, one.bm25))):
                runs[leg][query.query_id] = _scores(alone, ranking.top(10))
        for leg, run in runs.items():
            found[leg, terms] = _values(run, qrels, [query.query_id for query in queries])
    return found


def _scores(retriever: Retriever, ranking: Ranking) -> dict[str, float]:
    return dict(zip(retriever.doc_ids(ranking), ranking.scores.tolist(), strict=True))


def _values(run: Run, qrels: Qrels, query_ids: Sequence[str]) -> Values:
    per_query = evaluate(
        {query: scores for query, scores in run.items() if scores}, qrels, [MEASURE]
    ).per_query
    return np.array([per_query[query_id][MEASURE] for query_id in query_ids])


def joined(sets: Sequence[Questions]) -> Questions:
    """The questions of several sets together."""
    return {key: np.concatenate([one[key] for one in sets]) for key in sets[0]}


def rows_of(languages: Mapping[str, Questions]) -> list[list[object]]:
    """A row for each language, and their mean."""
    columns = [(leg, terms) for leg in LEGS for terms in TERMS]
    rows: list[list[object]] = [
        [lang, len(values[columns[0]]), *(float(values[column].mean()) for column in columns)]
        for lang, values in sorted(languages.items())
    ]
    means = [float(np.mean([float(str(row[place])) for row in rows])) for place in range(2, len(rows[0]))]
    return [*rows, ["mean", sum(int(str(row[1])) for row in rows), *means]]


def family_gains(languages: Mapping[str, Questions]) -> list[list[object]]:
    """What `both` gains over the analyzer and which terms are chosen, for each family and for all."""
    everything = joined(list(languages.values()))
    overall = {leg: _chosen(everything, leg, default="analyzer") for leg in LEGS}
    rows: list[list[object]] = []
    for family, members in FAMILIES.items():
        if own := [languages[lang] for lang in members if lang in languages]:
            values = joined(own)
            rows.append(
                [family, *_gains(values, {leg: _chosen(values, leg, default=overall[leg]) for leg in LEGS})]
            )
    return [*rows, ["all", *_gains(everything, overall)]]


def _gains(values: Questions, chosen: Mapping[str, Terms]) -> list[object]:
    cells: list[object] = [len(values[LEGS[0], "both"])]
    for leg in LEGS:
        result = compare(values[leg, "analyzer"], values[leg, "both"])
        cells += [result.difference, result.low, result.high, result.p_value, chosen[leg]]
    return cells


def _chosen(values: Questions, leg: str, *, default: Terms) -> Terms:
    candidates = [default, *(terms for terms in TERMS if terms != default)]
    return candidates[choose(np.array([values[leg, terms] for terms in candidates]), floor=0.0)]


if __name__ == "__main__":
    main()
