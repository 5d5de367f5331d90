"""Milvus Lite against an index of ours on XQuAD: the same dense hits, and nDCG@10 of both hybrids.

The vectors are those of the same model, compared exactly on both sides. Milvus joins its legs by reciprocal
ranks; ours are joined by the default fusion, and by reciprocal ranks, too. `python benchmarks/milvus.py`
prints the table; each language is against its own 240 paragraphs.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from common import (
    XQUAD,
    arguments,
    index_once,
    ndcg,
    need,
    print_table,
    read_topics,
    run_of,
    with_mean,
    write_json,
)

from mretrieve.milvus.build import build_collection
from mretrieve.milvus.retriever import MilvusRetriever
from mretrieve.rank.retriever import Retriever
from mretrieve.recipe import EncoderPart, Recipe
from mretrieve.types import Query, Run

_AT_ONCE = 64  # queries sent together


def rank_in_milvus(retriever: MilvusRetriever, queries: Sequence[Query], mode: str, top_k: int) -> Run:
    """Rank all queries."""
    run: Run = {}
    for start in range(0, len(queries), _AT_ONCE):
        some = queries[start : start + _AT_ONCE]
        found = retriever.rank_ids(some, top_k=top_k, mode="dense" if mode == "dense" else "hybrid")
        run |= {query.query_id: dict(hits) for query, hits in zip(some, found, strict=True)}
    return run


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--languages", nargs="*", default=XQUAD)
    parser.add_argument("--model", default="e5-small")
    options = parser.parse_args()
    recipe = Recipe(encoder=EncoderPart(model=options.model))
    rows: list[list[object]] = []
    for lang in options.languages:
        folder = need(options.data / "xquad" / lang)
        queries, qrels = read_topics(folder, "test")
        ours = Retriever(index_once(folder, recipe))
        by_ranks = Retriever(ours.index.path, fusion="rrf:60")
        with tempfile.TemporaryDirectory() as name:
            address = f"milvus:{Path(name, 'xquad.db')}"
            build_collection(folder, address, recipe=recipe)
            with MilvusRetriever(address) as milvus:
                dense = rank_in_milvus(milvus, queries, "dense", 10)
                hybrid = rank_in_milvus(milvus, queries, "hybrid", 100)
        expected = run_of(ours, queries, mode="dense", top_k=10)
        same = sum(dense[one].keys() == expected[one].keys() for one in expected) / len(expected)
        scores = [
            ndcg(run, qrels)
            for run in (
                hybrid,
                run_of(by_ranks, queries, mode="hybrid"),
                run_of(ours, queries, mode="hybrid"),
            )
        ]
        rows.append([lang, same, *scores])
    header = ["language", "same ten dense hits", "Milvus Lite, RRF", "ours, RRF", "ours"]
    print_table(header, with_mean(rows))
    write_json(options.json, {str(row[0]): dict(zip(header[1:], row[1:], strict=True)) for row in rows})


if __name__ == "__main__":
    main()
