"""What typing slips, Latin letters, mixed languages and lookalike letters cost on XQuAD, by language.

`python benchmarks/robustness.py` makes four variants of some questions of each language, as `mretrieve
perturb` does at its default rates, and tells the nDCG@10 of BM25, vectors and both on the language's 240
paragraphs. Words are mixed with English ones (English questions with Spanish ones) by a dictionary learned
from NTREX-128. `results/robustness.json` gets all figures.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from common import RESULTS, XQUAD, arguments, ndcg, need, print_table, read_topics, write_json
from fusion import bm25_beside_vectors
from tuned_fusion import rank_with_vectors
from vectors import VectorStore

from mretrieve.encode.encoder import Encoder
from mretrieve.evaluate.dictionary import learn_dictionary
from mretrieve.evaluate.perturb import Kind, perturb
from mretrieve.progress import progress
from mretrieve.rank.fusion import Fusion
from mretrieve.rank.retriever import Retriever
from mretrieve.types import Qrels, Query, Run
from mretrieve.understand.parallel import read_parallel

QUESTIONS = 100
LEGS = ("bm25", "dense", "hybrid")
KINDS: tuple[Kind, ...] = get_args(Kind)

Scores = dict[str, float]
"""Leg -> nDCG@10."""


def main() -> None:
    """Measure, print the table and write the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--languages", nargs="*", default=XQUAD)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    parser.add_argument("--model", default="e5-small")
    options = parser.parse_args()
    dictionaries = learn_dictionaries(options.data / "parallel" / "ntrex-128.jsonl.xz", options.languages)
    figures: dict[str, dict[str, Scores]] = {}
    with progress(resumable=True) as on_progress:
        store = VectorStore(Encoder(options.model), on_progress=on_progress)
        for lang in options.languages:
            folder = need(options.data / "xquad" / lang)
            queries, qrels = read_topics(folder, "test")
            queries = queries[:: -(-len(queries) // options.questions)]
            retriever = Retriever(bm25_beside_vectors(folder, lang))
            figures[lang] = measure(retriever, store, queries, qrels, dictionaries)
    print_report(figures)
    write_json(options.json or RESULTS / "robustness.json", figures)


def learn_dictionaries(parallel: Path, languages: Sequence[str]) -> dict[str, dict[str, str]]:
    """Query language -> dictionary into English; of English into Spanish."""
    text = read_parallel(parallel, langs=[*languages, "es"]).texts
    return {lang: learn_dictionary(text[lang], text["es" if lang == "en" else "en"]) for lang in languages}


def measure(
    retriever: Retriever,
    store: VectorStore,
    queries: Sequence[Query],
    qrels: Qrels,
    dictionaries: Mapping[str, Mapping[str, str]],
) -> dict[str, Scores]:
    """nDCG@10 of each leg with the questions as they are (`as asked`) and of each variant of them."""
    variants = {"as asked": list(queries)}
    for kind in KINDS:
        variants[kind] = list(perturb(queries, kind, dictionaries=dictionaries).queries)
    judged = {query.query_id: qrels[query.query_id] for query in queries}
    return {name: legs(retriever, store, asked, judged) for name, asked in variants.items()}


def legs(retriever: Retriever, store: VectorStore, queries: Sequence[Query], judged: Qrels) -> Scores:
    """nDCG@10 of each leg; questions for which a leg finds nothing count as 0."""
    runs: dict[str, Run] = {leg: {} for leg in LEGS}
    for query, one in zip(queries, rank_with_vectors(retriever, queries, store), strict=True):
        assert one.dense is not None and one.bm25 is not None
        rankings = (one.bm25, one.dense, Fusion().fuse(one.dense, one.bm25))
        for leg, ranking in zip(LEGS, rankings, strict=True):
            best = ranking.top(10)
            scores = zip(retriever.doc_ids(best), best.scores.tolist(), strict=True)
            runs[leg][query.query_id] = dict(scores)
    return {leg: ndcg(run, judged) if any(run.values()) else 0.0 for leg, run in runs.items()}


def print_report(figures: Mapping[str, Mapping[str, Scores]]) -> None:
    """Print the scores as asked, and what each variant loses of them."""
    header = ["language", *LEGS, *(f"{kind}: {leg}" for kind in KINDS for leg in LEGS)]
    rows: dict[str, list[float]] = {}
    for lang, by_variant in figures.items():
        own = by_variant["as asked"]
        drops = [by_variant[kind][leg] - own[leg] for kind in KINDS for leg in LEGS]
        rows[lang] = [*own.values(), *drops]
    rows["mean"] = np.mean(list(rows.values()), axis=0).tolist()
    print_table(header, [[lang, *row] for lang, row in rows.items()])


if __name__ == "__main__":
    main()
