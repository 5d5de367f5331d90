import asyncio
import gc
import logging
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.indexing import build_index
from mretrieve.serve.errors import ApiError
from mretrieve.serve.indexes import IndexRegistry
from mretrieve.serve.models import ModelRegistry
from mretrieve.serve.settings import Settings
from tests.conftest import COLLECTION, make_checkpoint, write_jsonl
from tests.serve.live import live, wait_until

NEWER = [
    {"_id": "fox", "text": "A fox sleeps behind the house.", "lang": "en"},
    {"_id": "cat", "text": "The cat is still here.", "lang": "en"},
]


@pytest.fixture
def newer(tmp_path):
    return write_jsonl(tmp_path / "newer.jsonl", NEWER)


@pytest.fixture
def path(tmp_path, small_index):
    """A copy of the small index, to be replaced."""
    return Path(shutil.copytree(small_index, tmp_path / "news"))


@pytest.fixture
def registry():
    """A function that opens a registry; it is closed at the end. The disk is looked at only on request."""
    made = []

    def make(*paths, models=(), is_open=True):
        settings = Settings(indexes=tuple(map(Path, paths)))
        made.append(IndexRegistry(settings, ModelRegistry(models), poll_seconds=3600))
        if is_open:
            made[-1].open()
        return made[-1]

    yield make
    for one in made:
        one.close()


def found(served, query="the cat"):
    return [hit.doc_id for hit in served.retriever.search(query, top_k=2, mode="dense")]


def names(registry):
    return [served.name for served in registry.all]


def test_indexes_are_found_by_name(registry, path, small_index):
    both = registry(path, f"other={small_index}")
    assert names(both) == ["news", "other"]
    with both.use("other") as served:
        assert (served.name, served.generation) == ("other", 1)
        assert served.retriever.index.path == small_index
        assert served.modes == ["hybrid", "dense", "bm25"]
    with pytest.raises(ApiError, match="There is no index 'nope'. Choose from: news, other.") as caught:
        both.use("nope").__enter__()
    assert (caught.value.status, caught.value.param) == (404, "index")
    with pytest.raises(ApiError, match="Name the index to search. Choose from: news, other.") as caught:
        both.use(None).__enter__()
    assert caught.value.status == 400


def test_the_only_index_may_be_left_unnamed(registry, path):
    with registry(path).use(None) as served:
        assert served.name == "news"


def test_indexes_of_one_model_share_it(path, small_index, model):
    models = ModelRegistry([f"tiny={model}"])
    registry = IndexRegistry(Settings(indexes=(path, Path(f"b={small_index}"))), models)
    assert [served.model for served in registry.all] == [models.default] * 2
    assert len(models.all) == 1
    registry.close()


def test_an_index_brings_its_own_model(path, model):
    models = ModelRegistry()
    registry = IndexRegistry(Settings(indexes=(path,)), models)
    [served] = registry.all
    assert [served.model] == models.all
    assert served.model.encoder.checkpoint.folder == model
    registry.close()


def test_a_model_that_has_moved_is_known_by_its_weights(path, model, tmp_path, registry):
    """The index names the old folder; that one has other weights now."""
    moved = shutil.copytree(model, tmp_path / "moved")
    text = (path / "manifest.json").read_text("utf-8")
    (path / "manifest.json").write_text(text.replace(str(model), str(tmp_path / "gone")), encoding="utf-8")
    [served] = registry(path, models=[str(moved)]).all
    assert served.model.encoder.checkpoint.folder == moved
    assert found(served)


def test_without_its_model_an_index_is_searched_by_words(path, model, tmp_path, registry, caplog):
    text = (path / "manifest.json").read_text("utf-8")
    (path / "manifest.json").write_text(text.replace(str(model), str(tmp_path / "gone")), encoding="utf-8")
    with caplog.at_level(logging.WARNING, "mretrieve"):
        [served] = registry(path).all
    assert (served.model, served.modes) == (None, ["bm25"])
    assert "The index news is searched by BM25 only" in caplog.text
    with pytest.raises(ApiError, match="cannot be searched with mode 'hybrid' here. Choose from: bm25."):
        served.choose_mode("hybrid")


def test_other_weights_are_refused_at_the_start(path, model, tmp_path, registry):
    other = make_checkpoint(_made(tmp_path / "other"), seed=7)
    text = (path / "manifest.json").read_text("utf-8")
    (path / "manifest.json").write_text(text.replace(str(model), str(other)), encoding="utf-8")
    with pytest.raises(InputError, match="was built with other weights"):
        registry(path)


def _made(folder):
    folder.mkdir()
    return folder


def test_without_java_an_index_is_searched_by_vectors(path, registry, monkeypatch, caplog):
    def fail():
        raise MissingDependencyError("BM25 needs Lucene, which is not installed.")

    monkeypatch.setattr("mretrieve.index.lucene.start_jvm", fail)
    with caplog.at_level(logging.WARNING, "mretrieve"):
        [served] = registry(path).all
    assert served.modes == ["dense"]
    assert "news is searched without BM25. BM25 needs Lucene" in caplog.text


@pytest.mark.parametrize("name", ["nothing", "files"])
def test_what_is_no_index_is_refused_at_the_start(tmp_path, registry, name):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.txt").touch()
    with pytest.raises(InputError, match="There is no index|is not an index"):
        registry(tmp_path / name)


def test_two_indexes_of_one_name_are_refused(path, tmp_path, registry):
    (tmp_path / "more").mkdir()
    shutil.copytree(path, tmp_path / "more" / "news")
    with pytest.raises(InputError, match="Two indexes are called 'news': give one of them another name"):
        registry(path, tmp_path / "more" / "news")


def test_a_rebuilt_index_takes_its_place_and_requests_in_flight_keep_theirs(path, newer, model, registry):
    indexes = registry(path)
    with indexes.use("news") as before:
        old = found(before)
        build_index(newer, path, model=str(model), overwrite=True)
        indexes.refresh()
        with indexes.use("news") as after:
            assert (after.generation, len(after.retriever.index.documents)) == (2, 2)
            assert set(found(after)) == {"cat", "fox"}
        # The old folder is gone from the disk; all of it is still read here.
        assert found(before) == old
        assert len(before.retriever.index.documents.get(range(len(COLLECTION)))) == len(COLLECTION)
        hits = before.retriever.search("alte Bäume im Wald", mode="bm25")
        assert [hit.doc_id for hit in hits] == ["baum", "hund"]
    indexes.refresh()
    assert [served.generation for served in indexes.all] == [2]


def test_an_old_generation_is_closed_with_its_last_request(path, newer, model, registry):
    indexes = registry(path)
    request = indexes.use("news")
    before = request.__enter__()
    lexical = before.retriever.index.lexical("en")
    build_index(newer, path, model=str(model), overwrite=True)
    indexes.refresh()
    assert len(lexical.search("cat", 1)[0]) == 1
    request.__exit__(None, None, None)
    with pytest.raises(ValueError, match="is closed"):
        lexical.search("cat", 1)


def test_an_old_generation_leaves_memory_at_once(path, newer, model, registry):
    indexes = registry(path)
    with indexes.use("news") as before:
        found(before)
        gone = weakref.ref(before.retriever)
    build_index(newer, path, model=str(model), overwrite=True)
    gc.collect()
    gc.disable()  # a server has much to look through: nothing may wait for it
    try:
        indexes.refresh()
        del before
        assert gone() is None
    finally:
        gc.enable()


def test_a_newer_index_that_cannot_be_used_leaves_the_old_one_in_use(path, registry, caplog):
    indexes = registry(path)
    broken = shutil.copytree(path, path.with_name("broken"))
    (broken / "dense.faiss").write_bytes(b"")
    path.rename(path.with_name("before"))
    broken.rename(path)
    with caplog.at_level(logging.WARNING, "mretrieve"):
        for _ in range(3):
            indexes.refresh()
    [message] = caplog.messages
    assert message.startswith("The new index news is not used: ")
    assert message.endswith("The one before stays in use.")
    with indexes.use("news") as served:
        assert served.generation == 1
        assert found(served)


def test_an_index_that_was_removed_stays_until_there_is_another(path, small_index, registry):
    indexes = registry(path)
    shutil.rmtree(path)
    indexes.refresh()
    assert [served.generation for served in indexes.all] == [1]
    shutil.copytree(small_index, path)
    for _ in range(12):  # it is not tried each time
        indexes.refresh()
    assert [served.generation for served in indexes.all] == [2]


def test_a_folder_of_indexes_is_watched(tmp_path, small_index, registry):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    indexes = registry(shelf)
    assert names(indexes) == []
    with pytest.raises(ApiError, match="this server has no index"):
        indexes.use(None).__enter__()
    shutil.copytree(small_index, shelf / "one")
    shutil.copytree(small_index, shelf / "two.building")
    shutil.copytree(small_index, shelf / ".hidden")
    (shelf / "notes").mkdir()
    indexes.refresh()
    assert names(indexes) == ["one"]
    with indexes.use("one") as served:
        assert found(served)
        shutil.rmtree(shelf / "one")
        indexes.refresh()
        assert names(indexes) == ["one"]  # it may be on its way
        indexes.refresh()
        assert names(indexes) == []
        assert found(served)


def test_work_holds_its_index_although_the_caller_has_gone(path, newer, model, registry):
    indexes = registry(path)
    go_on, ended = threading.Event(), threading.Event()

    async def ask():
        with indexes.use("news") as served:

            def work():
                go_on.wait(30)
                try:
                    return served.retriever.search("cat", mode="bm25")
                finally:
                    ended.set()

            task = asyncio.ensure_future(indexes.run(served, work))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return served

    served = asyncio.run(ask())
    build_index(newer, path, model=str(model), overwrite=True)
    indexes.refresh()
    lexical = served.retriever.index.lexical("en")
    assert len(lexical.search("cat", 1)[0]) == 1  # the search that nobody waits for may still need it
    go_on.set()
    assert ended.wait(30)
    wait_until(lambda: lexical._closed)


def test_a_server_swaps_while_clients_search(path, newer, model, monkeypatch):
    monkeypatch.setattr("mretrieve.serve.indexes.POLL_SECONDS", 0.05)
    stop = threading.Event()
    with live(Settings(indexes=(path,))) as server:

        def client():
            seen = set()
            with httpx.Client(base_url=server.url, timeout=60) as http:
                while not stop.is_set():
                    reply = http.post("/v1/search", json={"query": "the cat in the garden", "top_k": 6})
                    assert reply.status_code == 200, reply.text
                    found = reply.json()
                    seen.add((found["generation"], len(found["hits"])))
            return seen

        with ThreadPoolExecutor(3) as pool:
            clients = [pool.submit(client) for _ in range(3)]
            try:
                build_index(newer, path, model=str(model), overwrite=True)
                wait_until(lambda: server.state.indexes.all[0].generation == 2)
                wait_until(lambda: server.json("/v1/search", query="cat")["generation"] == 2)
            finally:
                stop.set()
            seen = set().union(*(one.result() for one in clients))
        assert seen <= {(1, len(COLLECTION)), (2, len(NEWER))}
        assert (1, len(COLLECTION)) in seen
