"""Commands for large indexes, through the command line's own error handling."""

import json
import shutil
import sys

import pytest

from mretrieve.cli_scale import app
from mretrieve.index.manifest import read_manifest
from tests.conftest import Outcome


@pytest.fixture
def scale(monkeypatch, capsys, tmp_path):
    """A function that runs `mretrieve ARGUMENTS...` of this module alone: its `Outcome`."""
    import mretrieve.cli

    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mretrieve.cli, "app", app)

    def run(*arguments):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["mretrieve", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            mretrieve.cli.main()
        return Outcome(stop.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def lists(tmp_path_factory, model):
    """An index of sixty documents in four inverted lists; not to be changed."""
    from mretrieve.indexing import build_index

    folder = tmp_path_factory.mktemp("lists")
    words = ["cats", "dogs", "fish", "the king", "a hill"]
    rows = [{"_id": f"d{n}", "text": f"{words[n % 5]} {words[n % 3]} {n}"} for n in range(60)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_index(folder / "corpus.jsonl", folder / "index", model=str(model), faiss="IVF4,Flat", lexical=False)
    return folder / "index"


def test_tuning_writes_the_fastest_parameters_into_the_index(scale, lists, tmp_path):
    path = tmp_path / "index"
    shutil.copytree(lists, path)
    done = scale("tune-index", path, "--recall", 0.9, "--top-k", 3, "--json")
    assert done.status == 0, done.stderr
    assert done.json["chosen"]["recall"] >= 0.9
    assert read_manifest(path).dense.search == done.json["chosen"]["search"] != ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index", "index.recall.json", "index.recall.png"]
    assert json.loads((tmp_path / "index.recall.json").read_text())["target"] == 0.9


def test_a_dry_run_leaves_the_index_as_it_is(scale, lists, tmp_path):
    before = (lists / "manifest.json").read_bytes()
    queries = tmp_path / "queries.tsv"
    queries.write_text("q1\tcats and dogs\nq2\ta fish\n")
    done = scale(
        "tune-index", lists, "--dry-run", "--queries", queries, "--top-k", 3, "--curve", tmp_path / "c.png"
    )
    assert done.status == 0, done.stderr
    assert "recall@3" in done.stdout and "chosen" in done.stdout
    assert json.loads((tmp_path / "c.json").read_text())["queries"] == 2
    assert (lists / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--recall", 1.5], "--recall should be above 0 and at most 1"),
        (["--top-k", 100], "too few to take recall of 100 hits"),
        (["--vectors", "nothing.npy"], "nothing.npy is no file of vectors"),
    ],
)
def test_what_cannot_be_tuned_is_told_in_one_line(scale, lists, options, said):
    done = scale("tune-index", lists, *options)
    assert (done.status, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_plan_in_words_and_in_numbers(scale):
    done = scale("plan", "--documents", 106_000_000, "--dim", 16)
    assert done.status == 0, done.stderr
    assert "106,000,000 of 16 dimensions, IVF32768_HNSW32,PQ2,Refine(SQ8)" in done.stdout
    assert "encoding                      unknown" in done.stdout
    figures = scale("plan", "--documents", 1000, "--dim", 16, "--faiss", "Flat", "--json").json
    assert figures["disk_bytes"] == 1000 * 16 * 4
    assert figures["rates"]["dim"] == 16


@pytest.mark.slow
def test_a_plan_with_a_model_times_its_encoding(scale, model):
    done = scale("plan", "--documents", 1000, "--model", model, "--json")
    assert done.status == 0, done.stderr
    assert done.json["dim"] == 32
    assert done.json["encoding_seconds"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "Give --dim N, or the --model"),
        (["--dim", 16, "--faiss", "Flart"], "could not parse index string Flart"),
    ],
)
def test_what_cannot_be_planned_is_told_in_one_line(scale, options, said):
    done = scale("plan", "--documents", 1000, *options)
    assert (done.status, done.stdout) == (2, "")
    assert said in done.stderr and done.stderr.count("\n") == 1
