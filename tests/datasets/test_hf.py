import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mretrieve.datasets.collection import open_collection
from mretrieve.datasets.hf import HubFiles, classify, configurations, of_split, read_judgements, read_topics
from mretrieve.errors import InputError
from tests.official import of_sample

# Names of files in mteb/MIRACLRetrieval, mteb/mrtidy, mteb/scifact and BeIR/scifact.
MIRACL = [
    "README.md",
    "ar-corpus/dev-00000-of-00001.parquet",
    "sw-corpus/dev-00000-of-00002.parquet",
    "sw-corpus/dev-00001-of-00002.parquet",
    "sw-qrels/dev-00000-of-00001.parquet",
    "sw-queries/dev-00000-of-00001.parquet",
]
MRTIDY = [
    "swahili-corpus/train-00000-of-00001.parquet",
    *(
        f"swahili-{part}/{split}-00000-of-00001.parquet"
        for part in ("qrels", "queries")
        for split in ("dev", "test")
    ),
]


def test_configurations_are_kept_apart():
    assert classify(MIRACL, "sw") == HubFiles(
        {"dev": (MIRACL[2], MIRACL[3])}, {"dev": (MIRACL[5],)}, {"dev": (MIRACL[4],)}
    )
    assert configurations(MIRACL) == ["ar", "sw"]
    assert classify(MIRACL, "ar").qrels == {} and classify(MIRACL).corpus == {}


def test_splits_are_read_from_the_names():
    files = classify(MRTIDY, "swahili")
    assert files.splits() == ["dev", "test"]
    assert of_split(files.corpus, "test") == (MRTIDY[0],)  # the only one serves all
    assert of_split(files.queries, "test") == ("swahili-queries/test-00000-of-00001.parquet",)
    assert of_split(files.queries, "train") == ()


@pytest.mark.parametrize(
    "paths",
    [
        ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "qrels/train.tsv", ".gitattributes"],
        ["corpus.jsonl.gz", "queries.jsonl.gz", "qrels/test.jsonl", "qrels/train.jsonl"],
        ["corpus/corpus-00000-of-00001.parquet", "queries/queries-00000-of-00001.parquet",
         "default/test-00000-of-00001.parquet", "default/train/0000.parquet"],
        ["data/corpus-00000-of-00001.parquet", "data/queries-00000-of-00001-0123456789abcdef.parquet",
         "qrels/test-00000-of-00001.parquet", "qrels/train-00000-of-00001.parquet"],
    ],
)  # fmt: skip
def test_repositories_without_configurations(paths):
    files = classify(paths)
    assert files.splits() == ["test", "train"]
    assert len(of_split(files.corpus, "test")) == len(of_split(files.queries, "test")) == 1


def parquet(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)


@pytest.fixture
def repository(tmp_path):
    """A set of two configurations as mteb uploads them."""
    for lang in ("ar", "th"):
        small = of_sample(lang)
        half = len(small.documents) // 2
        for number, part in enumerate((small.documents[:half], small.documents[half:])):
            rows = [{"_id": d.doc_id, "title": d.title, "text": d.text} for d in part]
            parquet(tmp_path / "set" / f"{lang}-corpus" / f"dev-0000{number}-of-00002.parquet", rows)
        rows = [{"_id": q.query_id, "text": q.text} for q in small.queries]
        parquet(tmp_path / "set" / f"{lang}-queries" / "dev-00000-of-00001.parquet", rows)
        rows = [
            {"query-id": q, "corpus-id": d, "score": g}
            for q, judged in small.qrels.items()
            for d, g in judged.items()
        ]
        parquet(tmp_path / "set" / f"{lang}-qrels" / "dev-00000-of-00001.parquet", rows)
    return tmp_path


def test_a_set_of_parquet_files(repository):
    small = of_sample("th")
    collection = open_collection("hf:owner/set:th", root=repository)
    documents = list(collection.source().documents())
    assert [(d.doc_id, d.text, d.lang) for d in documents] == [
        (d.doc_id, d.text, "th") for d in small.documents
    ]
    assert [(q.query_id, q.text, q.lang) for q in collection.queries()] == [
        (q.query_id, q.text, "th") for q in small.queries
    ]
    assert collection.judgements() == collection.judgements("dev") == small.qrels


def test_an_unknown_configuration_is_told_with_the_known_ones(repository):
    with pytest.raises(InputError, match="Its configurations are: ar, th"):
        open_collection("hf:owner/set:sw", root=repository / "set")


def test_broken_rows_are_told(tmp_path):
    parquet(tmp_path / "q.parquet", [{"_id": "1", "text": "Who?"}, {"_id": "2", "text": ""}])
    with pytest.raises(InputError, match=r"q\.parquet:2: query '2' has no text"):
        read_topics([tmp_path / "q.parquet"])
    (tmp_path / "qrels.jsonl").write_text(json.dumps({"query-id": "1", "corpus-id": "2"}) + "\n{\n")
    with pytest.raises(InputError, match=r"qrels\.jsonl:1: a judgement needs query-id, corpus-id, score"):
        read_judgements([tmp_path / "qrels.jsonl"])
    parquet(
        tmp_path / "none.parquet",
        pa.table({"query-id": pa.array([], pa.string())}).to_pylist() or [{"score": None}],
    )
    with pytest.raises(InputError, match="needs query-id"):
        read_judgements([tmp_path / "none.parquet"])


def test_judgements_of_json_lines(tmp_path):
    lines = [{"query-id": "1", "corpus-id": "a", "score": 2}, {"query-id": 1, "corpus-id": "b", "score": "0"}]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert read_judgements([tmp_path / "test.jsonl"]) == {"1": {"a": 2, "b": 0}}
