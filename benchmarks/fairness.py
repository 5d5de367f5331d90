"""Whether vectors favour languages in XQuAD-R's pool: eleven languages, each with an equal share of answers.

`python benchmarks/fairness.py --model e5-small` prints what `mretrieve fairness` does of the run of all
questions, and of those asked in each language. `results/fairness.json` gets the figures.
"""

from common import RESULTS, arguments, need, print_table, write_json
from quality_sets import read_corpus, read_split, search
from vectors import VectorStore

from mretrieve.encode.encoder import Encoder
from mretrieve.evaluate.fairness import DEPTH, Fairness, language_fairness
from mretrieve.types import Document, Qrels, Query, Run


def main() -> None:
    """Print the tables and write the figures."""
    parser = arguments(__doc__)
    parser.add_argument("--model", default="e5-small")
    options = parser.parse_args()
    folder = need(options.data / "xquad-r")
    queries, qrels = read_split(folder, "test")
    documents = read_corpus(folder)
    run = search(VectorStore(Encoder(options.model)), queries, documents, top_k=DEPTH)
    found = measure(run, qrels, queries, documents)
    header = ["questions in", "PEER", "language bias", "own language first", "own, exposure", "own, relevant"]
    rows: list[list[object]] = []
    for lang, one in found.items():
        own = one.own_language
        assert own is not None
        rows.append([lang, one.peer, one.language_bias, own.first, own.exposure, own.relevant])
    print_table(header, rows)
    shares = found["all"].languages
    print()
    print_table(
        ["passages in", "relevant", "first hit", "first 10", "exposure", "bias", "auc"],
        [[s.language, s.relevant, s.first, s.first_hits, s.exposure, s.bias, s.auc] for s in shares],
    )
    write_json(options.json or RESULTS / "fairness.json", {lang: _plain(one) for lang, one in found.items()})


def measure(
    run: Run, qrels: Qrels, queries: list[Query], documents: tuple[Document, ...]
) -> dict[str, Fairness]:
    """Fairness of the questions of each language, and of `all`."""
    of_documents = {document.doc_id: document.lang for document in documents}
    of_queries = {query.query_id: query.lang for query in queries}
    found = {}
    for lang in [*sorted(set(of_queries.values())), "all"]:
        asked = {q: judged for q, judged in qrels.items() if lang in (of_queries[q], "all")}
        found[lang] = language_fairness(run, asked, of_documents, query_languages=of_queries)
    return found


def _plain(one: Fairness) -> dict[str, object]:
    """The figures without the curves, which are as long as the ranking."""
    figures = one.to_dict()
    languages = [share.language for share in one.languages]
    own = one.own_language
    figures["languages"] = {lang: _share(one, lang) for lang in languages}
    figures["own_language"] = None if own is None else {"first": own.first, "exposure": own.exposure}
    return figures


def _share(one: Fairness, lang: str) -> dict[str, float]:
    share = next(share for share in one.languages if share.language == lang)
    names = ("relevant", "first", "first_hits", "exposure", "bias", "auc")
    return {name: getattr(share, name) for name in names}


if __name__ == "__main__":
    main()
