"""MIRACL v1.0 (Zhang et al., 2023): its official files.

The corpus is `miracl-corpus-v1.0-sw/docs-0.jsonl.gz` and so on, one object a line: `docid`, `title`, `text`.
Topics are lines of `id<tab>question`, judgements TREC's `query Q0 document grade`; grade 0 was judged, too.

The baselines join title and text: Anserini's BM25 by a line break, mDPR and mContriever by a space. Ours join
them by a space, which gives BM25 the same words.
"""

from mretrieve.datasets.catalogue import benchmarks
from mretrieve.datasets.layout import Part

LOOSE = "miracl-topics-qrels"
"""A folder of topics and judgements of all languages, as Anserini's tools hold them."""


def corpus(lang: str) -> Part:
    """The passages of a language."""
    benchmark = benchmarks()["miracl"]
    names = [f"docs-{number}.jsonl.gz" for number in range(benchmark.languages[lang].shards)]
    folder = f"miracl-corpus-v1.0-{lang}"
    return Part(benchmark.repositories["corpus"], tuple(f"{folder}/{name}" for name in names))


def topics(lang: str, split: str) -> Part:
    """The questions of a split."""
    return _part(f"topics.miracl-v1.0-{lang}-{split}.tsv", "topics", lang)


def qrels(lang: str, split: str) -> Part:
    """The judgements of a split."""
    return _part(f"qrels.miracl-v1.0-{lang}-{split}.tsv", "qrels", lang)


def _part(name: str, folder: str, lang: str) -> Part:
    repository = benchmarks()["miracl"].repositories["topics"]
    return Part(repository, (f"miracl-v1.0-{lang}/{folder}/{name}",), (name, f"{LOOSE}/{name}"))
