"""`push` and `pull` as commands, and what other commands call where INDEX is an address of Milvus."""

import json

import pytest
from typer.testing import CliRunner

from mretrieve import cli_share
from mretrieve.datasets.runs import read_run, write_run
from mretrieve.rank.retriever import Retriever
from mretrieve.recipe import Recipe
from mretrieve.types import Query
from tests.hub import serving

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def invoke(*arguments):
    done = CliRunner().invoke(cli_share.app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_push_and_pull(tmp_path, small_index, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "hub").mkdir()
    with serving(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        pushed = json.loads(invoke("push", small_index, "hf:me/small", "--json"))
        assert pushed["url"].endswith("/datasets/me/small") and pushed["commit"] == hub.sha()
        said = invoke("push", small_index, "hf:me/small")
        assert f"{pushed['n_files']} files" in said
        assert "6 documents in 4 languages" in invoke("pull", "hf:me/small", tmp_path / "copy")
        again = json.loads(invoke("pull", "hf:me/small", tmp_path / "copy", "--overwrite", "--json"))
    assert again["documents"] == 6


def test_an_index_in_milvus_answers_as_a_folder_does(tmp_path, small_index, collection, model):
    pytest.importorskip("milvus_lite", reason="Milvus Lite is not installed")
    address = cli_share.Path(f"milvus:{tmp_path}/small.db")
    figures = cli_share.index_in_milvus(
        str(collection),
        address,
        recipe=Recipe().with_choices(model=str(model)),
        index_type="auto",
        device="cpu",
        overwrite=False,
        on_error="stop",
    )
    assert figures == {"index": str(address), "documents": 6, "written": 6, "skipped": 0}
    options = {"model": None, "device": "cpu", "dtype": "auto", "fusion": None}
    topics = [Query("q1", "cat in the garden", "en"), Query("q2", "Hund", "de")]
    told = []
    with cli_share.opened(address, **options) as milvus, cli_share.opened(small_index, **options) as folder:
        assert isinstance(folder, Retriever)
        ours, theirs = (one.search("a cat", mode="dense", lang="en") for one in (folder, milvus))
        assert [hit.doc_id for hit in ours] == [hit.doc_id for hit in theirs]
        rankings = cli_share.milvus_rankings(
            milvus, topics, top_k=3, mode="bm25", on_progress=lambda *what: told.append(what)
        )
        assert write_run(tmp_path / "run.trec", rankings, "test") == 3  # both of English, one of German
    assert told == [("queries", 2, 2)]
    run = read_run(tmp_path / "run.trec")
    assert max(run["q1"], key=run["q1"].get) == "dog" and max(run["q2"], key=run["q2"].get) == "hund"
