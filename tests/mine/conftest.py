"""A small data set to train on, made of the package's sample, and an index of it."""

import csv
import gzip
import json
from dataclasses import dataclass

import pytest

from mretrieve.datasets.source import SAMPLE
from mretrieve.indexing import build_index
from mretrieve.mine.candidates import Candidate, Candidates
from mretrieve.mine.pool import Pool
from mretrieve.types import Document, Query
from tests.conftest import write_jsonl

LANGUAGES = ("de", "en", "es")


@dataclass(frozen=True)
class Data:
    """A BEIR folder and what it holds."""

    folder: object
    documents: list
    queries: list
    qrels: dict


def read_lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_folder(folder, documents, queries, qrels, split="train"):
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "corpus.jsonl", documents)
    write_jsonl(folder / "queries.jsonl", queries)
    rows = [f"{query}\t{doc}\t{grade}\n" for query, judged in qrels.items() for doc, grade in judged.items()]
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows), "utf-8")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """75 passages in three languages and some 60 questions; only for tests, since it is a part of XQuAD."""
    documents = [one for one in read_lines(SAMPLE / "corpus.jsonl.gz") if one["lang"] in LANGUAGES]
    with open(SAMPLE / "qrels" / "test.tsv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["query-id"][:2] in LANGUAGES]
    qrels = {row["query-id"]: {row["corpus-id"]: 1} for row in rows[::6]}
    queries = [one for one in read_lines(SAMPLE / "queries.jsonl.gz") if one["_id"] in qrels]
    folder = tmp_path_factory.mktemp("data") / "train" / "little"
    write_folder(folder, documents, queries, qrels)
    return Data(folder, documents, queries, qrels)


@pytest.fixture(scope="session")
def index(tmp_path_factory, data, model):
    """An index of `data` with both parts; not to be changed."""
    path = tmp_path_factory.mktemp("mine") / "little"
    build_index(data.folder, path, model=str(model))
    return path


@pytest.fixture(scope="session")
def pool(index):
    return Pool(index)


@pytest.fixture(scope="session")
def questions(data):
    return [Query(one["_id"], one["text"], one["lang"]) for one in data.queries]


def candidate(name, lang="en", score=float("nan"), rank=0, source="dense", text=""):
    return Candidate(Document(name, text or f"text of {name}", lang=lang), source, rank, score)


def pair(query_lang="en", positive=None, found=()):
    return Candidates(Query("q", "what?", query_lang), tuple(found), positive or candidate("p"))
