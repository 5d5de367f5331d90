"""Small collections in the layouts in which MIRACL and Mr. TyDi are published, made of real passages."""

import gzip
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from mretrieve.datasets.catalogue import benchmarks
from mretrieve.datasets.hf import read_judgements, read_topics
from mretrieve.datasets.layout import find
from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import SAMPLE, open_source

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TYDI = ("ar", "en", "id", "ko", "sw")


@dataclass(frozen=True)
class Small:
    """Documents, topics and judgements of one language."""

    lang: str
    documents: list
    queries: list
    qrels: dict

    @property
    def n_judgements(self):
        return sum(map(len, self.qrels.values()))


def splits_of(name):
    """Language and split of all published topics of a benchmark."""
    languages = benchmarks()[name].languages
    return [(lang, split) for lang, entry in languages.items() for split in entry.splits]


def assert_all_published(name, layout, lang, split):
    """All topics and judgements of a split are in its official files, and every topic is judged.

    `layout` is the module that knows where these files are.
    """
    n_topics, n_judgements = benchmarks()[name].languages[lang].splits[split]
    topics = read_topics(find(SHARED, layout.topics(lang, split), whole=True))
    qrels = read_judgements(find(SHARED, layout.qrels(lang, split), whole=True))
    assert len(topics) == n_topics
    assert sum(map(len, qrels.values())) == n_judgements
    assert {topic.query_id for topic in topics} == set(qrels)


def of_sample(lang, *, n_queries=40):
    """The package's own passages of a language, which is there everywhere."""
    return _small(SAMPLE, SAMPLE / "qrels" / "test.tsv", lang, n_queries)


def of_tydi(lang, *, role="eval", split="test", n_queries=None, n_documents=None):
    """TyDi QA's passages of a language, where the shared data are: judged ones, and the first others."""
    folder = SHARED / role / f"{lang}-tydiqa"
    small = _small(folder, folder / "qrels" / f"{split}.tsv", lang, n_queries)
    if n_documents is not None:
        judged = {doc_id for grades in small.qrels.values() for doc_id in grades}
        others = [d.doc_id for d in small.documents if d.doc_id not in judged]
        kept = judged.union(others[: max(0, n_documents - len(judged))])
        small.documents[:] = [d for d in small.documents if d.doc_id in kept]
    return small


def _small(folder, qrels_file, lang, n_queries):
    documents = [document for document in open_source(folder).documents() if document.lang == lang]
    judged = read_qrels(qrels_file)
    queries = [one for one in read_queries(folder) if one.lang == lang and one.query_id in judged][:n_queries]
    return Small(lang, documents, queries, {one.query_id: judged[one.query_id] for one in queries})


def write_beir(folder, small, *, split="test"):
    """BEIR's layout."""
    lines = ({"_id": d.doc_id, "title": d.title, "text": d.text, "lang": d.lang} for d in small.documents)
    _write(folder / "corpus.jsonl.gz", _jsonl(lines))
    _write(
        folder / "queries.jsonl",
        _jsonl({"_id": q.query_id, "text": q.text, "lang": q.lang} for q in small.queries),
    )
    rows = "".join(f"{q}\t{d}\t{g}\n" for q, judged in small.qrels.items() for d, g in judged.items())
    _write(folder / "qrels" / f"{split}.tsv", "query-id\tcorpus-id\tscore\n" + rows)
    return folder


def write_miracl(root, small, *, split="dev", shards=1, named=True):
    """MIRACL's layout below a root that keeps the repositories' names, or has their folders alone."""
    lang = small.lang
    corpus, topics = (
        benchmarks()["miracl"].repositories[part].name if named else "" for part in ("corpus", "topics")
    )
    size = -(-len(small.documents) // shards)
    for number in range(shards):
        part = small.documents[number * size : (number + 1) * size]
        lines = ({"docid": d.doc_id, "title": d.title, "text": d.text} for d in part)
        _write(root / corpus / f"miracl-corpus-v1.0-{lang}" / f"docs-{number}.jsonl.gz", _jsonl(lines))
    folder = root / topics / f"miracl-v1.0-{lang}"
    _write(folder / "topics" / f"topics.miracl-v1.0-{lang}-{split}.tsv", _topics(small))
    _write(folder / "qrels" / f"qrels.miracl-v1.0-{lang}-{split}.tsv", _trec(small))
    return root


def write_mrtydi(root, small, *, split="test", named=True):
    """Mr. TyDi's layout on the hub."""
    repositories = benchmarks()["mrtydi"].repositories
    corpus, topics = (repositories[part].name if named else "" for part in ("corpus", "topics"))
    name = f"mrtydi-v1.1-{benchmarks()['mrtydi'].languages[small.lang].name}"
    lines = ({"docid": d.doc_id, "title": d.title, "text": d.text} for d in small.documents)
    _write(root / corpus / name / "corpus.jsonl.gz", _jsonl(lines))
    _write(root / topics / name / "ir-format-data" / f"topics.{split}.txt", _topics(small))
    _write(root / topics / name / "ir-format-data" / f"qrels.{split}.txt", _trec(small))
    return root


def write_archive(root, small, *, split="test"):
    """Mr. TyDi's archive: title and text are one string there."""
    name = f"mrtydi-v1.1-{benchmarks()['mrtydi'].languages[small.lang].name}"
    lines = (
        {"id": d.doc_id, "contents": f"{d.title} {d.text}" if d.title else d.text} for d in small.documents
    )
    content = {
        f"{name}/topic.{split}.tsv": _topics(small).encode(),
        f"{name}/qrels.{split}.txt": _trec(small).encode(),
        f"{name}/collection/docs.jsonl.gz": gzip.compress(_jsonl(lines).encode()),
    }
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / f"{name}.tar.gz", "w:gz") as archive:
        for path, data in content.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return root / f"{name}.tar.gz"


def _topics(small):
    return "".join(f"{query.query_id}\t{query.text}\n" for query in small.queries)


def _trec(small):
    return "".join(f"{q}\tQ0\t{d}\t{g}\n" for q, judged in small.qrels.items() for d, g in judged.items())


def _jsonl(records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
