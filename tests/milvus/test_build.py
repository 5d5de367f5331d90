import subprocess
import sys

import pytest

from mretrieve.errors import InputError
from mretrieve.milvus import build as module
from mretrieve.milvus.address import parse_milvus_address
from mretrieve.milvus.build import build_collection
from mretrieve.milvus.retriever import MilvusRetriever
from mretrieve.milvus.store import MilvusStore
from mretrieve.recipe import Recipe
from tests.conftest import COLLECTION, write_jsonl


@pytest.fixture
def recipe(model):
    return Recipe().with_choices(model=str(model))


@pytest.fixture
def address(tmp_path):
    return f"milvus:{tmp_path / 'test.db'}"


def test_the_same_call_again_writes_nothing(collection, address, recipe):
    told = []
    first = build_collection(collection, address, recipe=recipe, on_progress=lambda *what: told.append(what))
    assert (first.documents, first.written, first.shortened) == (6, 6, 0)
    assert told == [("documents", 6, None)]
    again = build_collection(collection, address, recipe=recipe)
    assert (again.documents, again.written) == (6, 0)


def test_an_insertion_that_was_cut_off_goes_on(collection, address, recipe, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)
    upsert, sent = MilvusStore.upsert, []

    def failing(self, rows):
        if len(sent) == 2:
            raise KeyboardInterrupt
        upsert(self, rows)
        sent.append(len(rows))

    monkeypatch.setattr(MilvusStore, "upsert", failing)
    with pytest.raises(KeyboardInterrupt):
        build_collection(collection, address, recipe=recipe)
    monkeypatch.setattr(MilvusStore, "upsert", upsert)
    done = build_collection(collection, address, recipe=recipe)
    assert (done.documents, done.written) == (6, 2)


KILLED = """
import os, sys
from mretrieve.milvus import build
from mretrieve.milvus.store import MilvusStore
from mretrieve.recipe import Recipe
upsert, sent = MilvusStore.upsert, []
def killed(self, rows):
    upsert(self, rows)
    sent.append(rows)
    if len(sent) == 2:
        os._exit(9)
MilvusStore.upsert, build.BATCH = killed, 2
source, address, model = sys.argv[1:]
build.build_collection(source, address, recipe=Recipe().with_choices(model=model))
"""


@pytest.mark.slow
def test_a_process_that_was_killed_loses_nothing_that_was_sent(collection, address, model, recipe):
    program = [sys.executable, "-P", "-c", KILLED, str(collection), address, str(model)]
    assert subprocess.run(program, check=False, timeout=120).returncode == 9
    done = build_collection(collection, address, recipe=recipe)
    assert (done.documents, done.written) == (6, 2)


def test_another_source_replaces_it_only_on_demand(collection, address, recipe, tmp_path):
    build_collection(collection, address, recipe=recipe)
    other = write_jsonl(tmp_path / "other.jsonl", COLLECTION[:2])
    with pytest.raises(InputError, match="holds another source, model or kind of index"):
        build_collection(other, address, recipe=recipe)
    done = build_collection(other, address, recipe=recipe, overwrite=True)
    assert (done.documents, done.written) == (2, 2)


def test_a_collection_of_others_is_left_alone(collection, address, recipe):
    with MilvusStore(parse_milvus_address(address)) as store:
        store.client.create_collection(store.name, dimension=4)
    with pytest.raises(InputError, match="was not made by mretrieve"):
        build_collection(collection, address, recipe=recipe, overwrite=True)


def test_ids_with_every_sign_and_long_texts(address, recipe, tmp_path):
    ids = ["it's", 'q"uote', "back\\slash", "نهر", "a == b or c", "x" * 1000]
    records = [{"_id": one, "text": "word " * 20_000, "lang": "en"} for one in ids]
    done = build_collection(write_jsonl(tmp_path / "c.jsonl", records), address, recipe=recipe)
    assert (done.documents, done.shortened) == (6, 6)
    assert build_collection(tmp_path / "c.jsonl", address, recipe=recipe).written == 0
    with MilvusRetriever(address) as retriever:
        assert {hit.doc_id for hit in retriever.search("word")} == set(ids)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_index_types_of_milvus_lite(collection, address, recipe, kind):
    build_collection(collection, address, recipe=recipe, index_type=kind)
    with MilvusRetriever(address) as retriever:
        assert retriever.about.index_type == kind
        assert len(retriever.search("cat", mode="dense")) == 6


def test_what_milvus_lite_lacks_is_named(collection, address, recipe):
    for kind in ("diskann", "gpu_cagra"):
        with pytest.raises(
            InputError, match=f"Milvus Lite has no index '{kind}', which needs a Milvus server"
        ):
            build_collection(collection, address, recipe=recipe, index_type=kind)
    with pytest.raises(InputError, match="no index 'trees' here"):
        build_collection(collection, address, recipe=recipe, index_type="trees")


def test_both_legs_are_needed(collection, address):
    with pytest.raises(InputError, match="a dense and a BM25 part"):
        build_collection(collection, address, recipe=Recipe().with_choices(dense=False))
