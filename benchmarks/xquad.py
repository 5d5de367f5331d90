"""nDCG@10 of BM25, dense and hybrid on XQuAD: each of 12 languages against its own 240 paragraphs.

Artetxe et al., 2020 (arXiv:1910.11856). `python benchmarks/xquad.py` prints the table.
"""

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

from mretrieve.rank.retriever import Retriever
from mretrieve.recipe import EncoderPart, Recipe
from mretrieve.types import Mode

MODES: tuple[Mode, ...] = ("bm25", "dense", "hybrid")


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--languages", nargs="*", default=XQUAD)
    parser.add_argument("--model", default="e5-small")
    parser.add_argument("--fusion", help="such as rrf:60; by default mretrieve's own")
    options = parser.parse_args()
    recipe = Recipe(encoder=EncoderPart(model=options.model))
    rows: list[list[object]] = []
    for lang in options.languages:
        folder = need(options.data / "xquad" / lang)
        name = "" if options.model == "e5-small" else f"{options.model.replace('/', '-')}-"
        retriever = Retriever(index_once(folder, recipe, name=name), fusion=options.fusion)
        queries, qrels = read_topics(folder, "test")
        rows.append([lang, *(ndcg(run_of(retriever, queries, mode=mode), qrels) for mode in MODES)])
    print_table(["language", *MODES], with_mean(rows))
    write_json(options.json, {str(row[0]): dict(zip(MODES, row[1:], strict=True)) for row in rows})


if __name__ == "__main__":
    main()
