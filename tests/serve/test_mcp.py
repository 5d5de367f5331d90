import asyncio
import json
import os
import sys
import threading
from importlib.resources import files
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.indexing import build_index
from mretrieve.rank.retriever import Retriever
from mretrieve.serve.mcp import IndexSearcher, describe, make_mcp_server
from tests.conftest import write_jsonl


def by_stdio(index):
    """`mretrieve mcp INDEX`, to be started by a client as an agent's program does."""
    keep = {name: value for name, value in os.environ.items() if name.startswith(("MRETRIEVE", "OMP", "XDG"))}
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "mretrieve.cli", "mcp", str(index)],
        env=keep,
        cwd=Path(__file__).resolve().parents[2],
    )


def talk(server, conversation, **options):
    """What a conversation of the SDK's own client with a server comes to."""

    async def run():
        async with Client(server, read_timeout_seconds=120, **options) as client:
            return await conversation(client)

    return asyncio.run(run())


def searching(**arguments):
    async def conversation(client):
        return await client.call_tool("search", arguments)

    return conversation


@pytest.fixture(scope="module")
def server(small_index):
    return make_mcp_server(IndexSearcher(lambda: Retriever(small_index)), name="small")


def test_there_is_one_tool_and_it_says_what_it_searches(server, small_index):
    async def conversation(client):
        return client.server_info, client.instructions, await client.list_tools()

    info, instructions, listed = talk(server, conversation)
    [tool] = listed.tools
    assert (tool.name, tool.title, info.name) == ("search", "Search small", "mretrieve: small")
    assert tool.description == instructions == describe(Retriever(small_index), "small")
    assert "6 passages, languages de, en, ar, th." in tool.description
    assert tool.input_schema["required"] == ["query"]
    assert tool.input_schema["properties"].keys() == {"query", "top_k", "mode", "lang", "languages"}
    assert all(one.get("description") for one in tool.input_schema["properties"].values())
    assert tool.annotations.read_only_hint


def test_a_tool_call_finds_what_the_retriever_finds(server, small_index):
    retriever = Retriever(small_index)
    for query in ("the cat in the garden", "النهر", "zzz"):
        for options in ({}, {"mode": "bm25"}, {"top_k": 2, "mode": "dense"}, {"languages": ["de"]}):
            result = talk(server, searching(query=query, **options))
            hits = retriever.search(query, **{"top_k": 5, **options})
            passages = result.structured_content["passages"]
            fields = ("rank", "doc_id", "title", "text", "lang")
            assert [[one[name] for name in fields] for one in passages] == [
                [getattr(hit, name) for name in fields] for hit in hits
            ]
            assert [one["score"] for one in passages] == pytest.approx([hit.score for hit in hits], abs=1e-5)
            [content] = result.content
            assert json.loads(content.text) == result.structured_content
            assert not result.is_error


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"query": " "}, "The query is empty"),
        ({"query": "cat", "lang": "xx"}, "Unknown language 'xx'"),
        ({"query": "cat", "languages": ["xx"]}, "Unknown language 'xx'"),
        ({"query": "cat", "top_k": 0}, "greater than or equal to 1"),
        ({"query": "cat", "top_k": 10**6}, "less than or equal to 100"),
        ({"query": "cat", "mode": "sparse"}, "'hybrid', 'dense' or 'bm25'"),
        ({}, "Field required"),
    ],
)
def test_an_agents_mistakes_are_told_to_it(server, arguments, fault):
    result = talk(server, searching(**arguments))
    assert result.is_error
    assert fault in result.content[0].text


def test_what_goes_wrong_inside_is_not_told(small_index):
    def fail(*arguments, **options):
        raise RuntimeError("secret /srv/place")

    searcher = IndexSearcher(lambda: Retriever(small_index))
    searcher.search = fail
    result = talk(make_mcp_server(searcher, name="small"), searching(query="cat"))
    assert result.is_error
    assert "secret" not in result.content[0].text


def test_a_message_of_the_library_goes_out_without_folders(small_index):
    def fail(*arguments, **options):
        raise InputError("/srv/indexes/small has no dense part.")

    searcher = IndexSearcher(lambda: Retriever(small_index))
    searcher.search = fail
    result = talk(make_mcp_server(searcher, name="small"), searching(query="cat"))
    assert result.content[0].text.endswith(": small has no dense part.")


def test_a_rebuilt_index_is_opened_again(tmp_path, collection, model):
    path = tmp_path / "news"
    build_index(collection, path, model=str(model))
    searcher = IndexSearcher(lambda: Retriever(path))
    options = {"top_k": 10, "mode": None, "lang": None, "languages": None}
    assert len(searcher.search("cat", **options)) == 6
    newer = write_jsonl(tmp_path / "newer.jsonl", [{"_id": "1", "text": "The cat is here.", "lang": "en"}])
    build_index(newer, path, model=str(model), overwrite=True)
    assert [hit.doc_id for hit in searcher.search("cat", **options)] == ["1"]


def test_many_languages_are_not_all_named(small_index):
    retriever = Retriever(small_index)
    entry = retriever.index.manifest.languages["de"]
    manifest = type(retriever.index.manifest)(
        **{name: getattr(retriever.index.manifest, name) for name in retriever.index.manifest.__slots__}
        | {"languages": {f"l{number:02}": entry for number in range(40)}, "documents": 12_345}
    )
    retriever.index.manifest = manifest
    text = describe(retriever, "wide")
    assert "12,345 passages, languages l00, l01," in text
    assert "l29 and 10 more. " in text and "l30" not in text


def test_without_the_sdk_the_message_says_what_to_install(small_index, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'mretrieve\[serve\]'"):
        make_mcp_server(IndexSearcher(lambda: Retriever(small_index)), name="small")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agent_searches_by_standard_input_and_output(small_index, mode):
    """Both ways of beginning a conversation: today's, and the handshake of older clients."""

    async def conversation(client):
        listed = await client.list_tools()
        answers = [
            await client.call_tool("search", {"query": "the cat", "mode": m}) for m in ("hybrid", "bm25")
        ]
        return [tool.name for tool in listed.tools], answers

    tools, answers = talk(by_stdio(small_index), conversation, mode=mode)
    assert tools == ["search"]
    for mode, answer in zip(("hybrid", "bm25"), answers, strict=True):
        hits = Retriever(small_index).search("the cat", top_k=5, mode=mode)
        assert [one["doc_id"] for one in answer.structured_content["passages"]] == [
            hit.doc_id for hit in hits
        ]


@pytest.fixture(scope="module")
def sample_index(tmp_path_factory, e5_folder):
    """The sample's passages in four scripts, with the embedded model."""
    folder = tmp_path_factory.mktemp("sample")
    records = [
        {"_id": one.doc_id, "title": one.title, "text": one.text, "lang": one.lang}
        for one in open_source("sample").documents()
        if one.lang in ("ar", "hi", "th", "zh")
    ]
    build_index(write_jsonl(folder / "corpus.jsonl", records), folder / "sample")
    return folder / "sample"


@pytest.mark.slow
def test_an_agent_finds_its_answers_in_the_sample(sample_index):
    """Judged questions in three scripts, by the real model; and an English one to passages in Hindi."""
    judged = read_qrels(files("mretrieve.datasets") / "sample" / "qrels" / "test.tsv")
    topics = [query for query in read_queries("sample") if query.query_id in judged]
    asked = [query for lang in ("ar", "th", "zh") for query in [q for q in topics if q.lang == lang][:3]]

    async def conversation(client):
        answers = [await client.call_tool("search", {"query": query.text}) for query in asked]
        harvard = {"query": "Why did Harvard end its early admission program?", "languages": ["hi"]}
        return answers, await client.call_tool("search", harvard)

    answers, harvard = talk(by_stdio(sample_index), conversation)
    n_found = 0
    for answer, query in zip(answers, asked, strict=True):
        passages = answer.structured_content["passages"]
        assert len(passages) == 5
        n_found += any(passage["doc_id"] in judged[query.query_id] for passage in passages)
    assert n_found >= 8  # of 9
    first = harvard.structured_content["passages"][0]
    assert first["lang"] == "hi" and "हार्वर्ड" in first["text"]


def test_searches_of_several_threads_take_turns(small_index):
    searcher = IndexSearcher(lambda: Retriever(small_index))
    options = {"top_k": 3, "mode": None, "lang": None, "languages": None}
    expected = searcher.search("the cat", **options)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(searcher.search("the cat", **options))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4
