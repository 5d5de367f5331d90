"""Recipes with the scores that they expect, from the file to the exit status."""

from pathlib import Path

import pytest
import yaml

from mretrieve.datasets.source import SAMPLE
from mretrieve.errors import InputError
from mretrieve.index.manifest import read_manifest
from mretrieve.recipe import Recipe, read_recipe
from mretrieve.reproduce import reproduce
from mretrieve.reproduce_recipe import collection_of, reproduce_recipe, settings_of
from mretrieve.reproduction import Settings
from tests.official import of_sample, write_beir, write_miracl

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def root(tmp_path):
    return write_miracl(tmp_path / "root", of_sample("ar"))


def write(tmp_path, **content):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def scores(result):
    return {score.measure: (score.expected, score.as_expected) for score in result.scores}


def test_a_recipe_s_index_is_built_and_its_scores_are_checked(root, tmp_path):
    bm25 = {"k1": 1.2, "b": 0.75, "terms": "both"}
    content = {"collection": "miracl/ar", "encoder": None, "bm25": bm25}
    first = reproduce_recipe(write(tmp_path, **content), tmp_path / "out", root=root)
    assert set(scores(first).values()) == {(None, None)}
    ndcg, recall = (score.measured for score in first.scores)
    manifest = read_manifest(tmp_path / "out" / "indexes" / "miracl-ar.recipe-mine")
    assert (manifest.ranking.k1, manifest.ranking.terms, manifest.encoder) == (1.2, "both", None)

    expect = {"split": "dev", "nDCG@10": ndcg + 0.004, "R@100": recall - 0.006, "RR@10": None}
    path = write(tmp_path, **content, expect={**expect, "tolerance": 0.005})
    result = reproduce_recipe(path, tmp_path / "out", root=root)
    assert (result.split, result.retriever) == ("dev", "bm25")
    assert scores(result) == {
        "nDCG@10": (ndcg + 0.004, True),
        "R@100": (recall - 0.006, False),
        "RR@10": (None, None),
    }
    values = result.to_dict()["scores"]
    assert [value["as_expected"] for value in values] == [True, False, None]


def test_the_index_is_built_again_only_when_the_recipe_asks_for_another(root, tmp_path, monkeypatch):
    from mretrieve import reproduce as reproducing

    content = {"collection": "miracl/ar", "encoder": None, "expect": {"nDCG@10": 0.5}}
    reproduce_recipe(write(tmp_path, **content), tmp_path / "out", root=root)
    with monkeypatch.context() as patched:
        patched.setattr(reproducing, "build_index", None)
        content["expect"] = {"nDCG@10": 0.6, "P@5": None}
        result = reproduce_recipe(write(tmp_path, **content), tmp_path / "out", root=root)
        assert scores(result)["nDCG@10"][0] == 0.6 and "P@5" in scores(result)
        with pytest.raises(TypeError):
            reproduce_recipe(write(tmp_path, **content, bm25={"b": 0.9}), tmp_path / "out", root=root)


def test_what_is_published_is_measured_by_anserini_s_terms(root, tmp_path):
    """Whatever the terms of an index are where nobody asks for other ones."""
    reproduce("miracl/ar", tmp_path / "out", settings=Settings("bm25"), root=root)
    manifest = read_manifest(tmp_path / "out" / "indexes" / "miracl-ar.bm25")
    assert manifest.ranking.terms == "analyzer"
    assert manifest.languages["ar"].analyzer == "anserini:org.apache.lucene.analysis.ar.ArabicAnalyzer"


def test_the_retriever_is_the_most_that_the_index_allows(tmp_path):
    def retriever(**parts):
        return settings_of(Recipe(**parts), tmp_path / "mine.yaml").retriever

    assert retriever() == "hybrid"
    assert retriever(encoder=None) == "bm25"
    assert retriever(bm25=None) == "dense"
    assert retriever(expect={"retriever": "dense"}) == "dense"
    with pytest.raises(InputError, match="expects scores of hybrid, but its index has bm25 only"):
        retriever(encoder=None, expect={"retriever": "hybrid"})


def test_collections_of_recipes(tmp_path):
    assert collection_of("sample").place == str(SAMPLE)
    assert str(collection_of("miracl/sw", "dev")) == "miracl/sw/dev"
    assert str(collection_of("miracl/sw/train", "dev")) == "miracl/sw/train"
    folder = write_beir(tmp_path / "beir", of_sample("th"))
    assert str(collection_of(str(folder), "test")) == f"beir:{folder}"
    with pytest.raises(InputError, match="has no split 'tset' here"):
        collection_of("miracl/sw", "tset")
    with pytest.raises(InputError, match="There is no collection 'nothing'"):
        collection_of("nothing")


def test_a_recipe_needs_a_collection_and_a_part(tmp_path, root):
    with pytest.raises(InputError, match=r"mine\.yaml names no collection: put `collection: miracl/sw`"):
        reproduce_recipe(write(tmp_path, encoder=None), tmp_path / "out")
    with pytest.raises(InputError, match="An index needs a dense or a lexical part"):
        reproduce_recipe(write(tmp_path, encoder=None, bm25=None), tmp_path / "out")
    result = reproduce_recipe(
        write(tmp_path, encoder=None, collection="miracl/sw"),
        tmp_path / "out",
        address="miracl/ar",
        root=root,
    )
    assert result.address == "miracl/ar"


def test_the_command_gives_a_verdict(command, root, tmp_path):
    out = ("--root", root, "--out", tmp_path / "out")
    content = {"collection": "miracl/ar", "encoder": None}
    done = command("reproduce", "--recipe", write(tmp_path, **content), *out)
    assert done.status == 0 and "expects no score: write those measured under `expect`" in done.stderr
    header, ndcg, recall = done.stdout.splitlines()
    assert header.split() == [
        "collection", "retriever", "measure", "measured", "expected", "difference", "tolerance", "verdict",
    ]  # fmt: skip
    measured = float(ndcg.split()[3])
    assert ndcg.split()[4:] == ["nothing", "expected"]

    good = write(tmp_path, **content, expect={"nDCG@10": measured})
    done = command("reproduce", "--recipe", good, *out)
    assert done.status == 0 and done.stderr.endswith("mine.yaml: reproduced\n")
    assert done.stdout.splitlines()[1].endswith("as expected")

    bad = write(tmp_path, **content, expect={"nDCG@10": measured - 0.01, "R@100": 0})
    done = command("reproduce", "--recipe", bad, *out)
    assert done.status == 1 and done.stderr.endswith("mine.yaml: nDCG@10, R@100 not as expected\n")
    assert "+0.0100" in done.stdout and "Traceback" not in done.stderr
    done = command("reproduce", "--recipe", bad, *out, "--json")
    assert done.status == 1
    assert [score["as_expected"] for score in done.json["scores"]] == [False, False]


def test_the_command_takes_from_the_recipe_what_the_recipe_says(command, tmp_path):
    done = command("reproduce", "--recipe", write(tmp_path), "--retriever", "bm25", "--all")
    assert done.status == 2
    assert "leave out --retriever and --all, or change the recipe" in done.stderr


@pytest.mark.slow
def test_the_recipe_of_the_sample_is_reproduced(tmp_path, monkeypatch, e5_folder):
    monkeypatch.delenv("MRETRIEVE_CACHE")  # where the model is unpacked already
    path = ROOT / "indexes" / "sample.yaml"
    result = reproduce_recipe(path, tmp_path / "out")
    checked = {score.measure: score.as_expected for score in result.scores if score.as_expected is not None}
    assert checked == dict.fromkeys(read_recipe(path).expect.scores, True) != {}
