"""The whole path from published files to a verdict, on small collections in the official layouts."""

import json

import pytest

from mretrieve import reproduce as reproducing
from mretrieve.datasets.runs import read_run
from mretrieve.errors import InputError
from mretrieve.evaluate.measures import evaluate
from mretrieve.index.manifest import read_manifest
from mretrieve.reproduce import reproduce, reproduce_many
from mretrieve.reproduction import Settings
from tests.official import (
    SHARED,
    TYDI,
    of_sample,
    of_tydi,
    write_archive,
    write_beir,
    write_miracl,
    write_mrtydi,
)

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def root(tmp_path):
    return write_miracl(tmp_path / "root", of_sample("ar"))


def scores(result):
    return {score.measure: score.measured for score in result.scores}


def test_a_score_stands_beside_the_published_one(root, tmp_path):
    result = reproduce("miracl/ar", tmp_path / "out", root=root)
    assert (result.split, result.topics, result.passages) == ("dev", 40, 25)
    assert (result.compared_with, result.source) == ("BM25", "pyserini 1.6, pyserini/2cr/miracl.yaml")
    ndcg = result.scores[0]
    assert (ndcg.measure, ndcg.published, ndcg.verdict) == ("nDCG@10", 0.4809, "not comparable")
    assert 0.8 < ndcg.measured <= 1
    assert ndcg.difference == pytest.approx(ndcg.measured - 0.4809)


def test_runs_are_kept_and_give_the_same_scores(root, tmp_path):
    result = reproduce("miracl/ar/dev", tmp_path / "out", root=root)
    assert result.run == str(tmp_path / "out" / "runs" / "miracl-ar-dev.bm25.trec")
    run = read_run(result.run)
    assert len(run) == 40
    assert evaluate(run, of_sample("ar").qrels, ["nDCG@10", "R@100"]).mean == scores(result)


def test_a_finished_result_is_only_read_again(root, tmp_path, monkeypatch):
    first = reproduce("miracl/ar", tmp_path / "out", root=root)
    with monkeypatch.context() as patched:
        patched.setattr(reproducing, "build_index", None)
        patched.setattr(reproducing, "Retriever", None)
        assert reproduce("miracl/ar", tmp_path / "out", root=root) == first
    topics = next(root.rglob("qrels.*.tsv"))
    topics.write_text("".join(topics.read_text().splitlines(keepends=True)[:-1]))
    assert reproduce("miracl/ar", tmp_path / "out", root=root).topics == 39


def test_an_index_is_built_again_when_the_corpus_has_changed(root, tmp_path):
    reproduce("miracl/ar", tmp_path / "out", root=root)
    small = of_sample("ar")
    write_miracl(root, type(small)("ar", small.documents[:20], small.queries, small.qrels))
    assert reproduce("miracl/ar", tmp_path / "out", root=root).passages == 20


def test_bm25_needs_no_model(root, tmp_path):
    reproduce("miracl/ar", tmp_path / "out", settings=Settings(model="no/such-model"), root=root)
    manifest = read_manifest(tmp_path / "out" / "indexes" / "miracl-ar.bm25")
    assert manifest.encoder is None and list(manifest.languages) == ["ar"]


def test_dense_and_hybrid_share_an_exact_index(root, tmp_path, model):
    out = tmp_path / "out"
    settings = [Settings(mode, str(model)) for mode in ("dense", "hybrid")]
    found = reproduce_many("miracl/ar", out, settings=settings, root=root)
    assert [one.retriever for one in found.results] == ["dense", "hybrid"]
    assert [one.compared_with for one in found.results] == ["mDPR", "BM25 + mDPR"]
    indexes = [path.name for path in (out / "indexes").iterdir() if path.is_dir()]
    assert indexes == [f"miracl-ar.{model.name}"]
    manifest = read_manifest(out / "indexes" / indexes[0])
    assert manifest.dense.factory == "Flat"


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid"])
@pytest.mark.parametrize("lang", ["ar", "th"])
def test_official_layouts_score_as_beir_folders_do(tmp_path, model, lang, mode):
    check_layouts(of_sample(lang), tmp_path, Settings(mode, str(model)))


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("lang", TYDI)
def test_official_layouts_of_tydi_score_as_beir_folders_do(tmp_path, model, lang):
    """The model is a small one with random weights: it is the path that is tested."""
    small = of_tydi(lang, n_queries=100)
    for mode in ("bm25", "dense", "hybrid"):
        check_layouts(small, tmp_path, Settings(mode, str(model)))


@needs_shared
@pytest.mark.slow
@pytest.mark.parametrize("lang", [lang for lang in TYDI if (SHARED / "train" / f"{lang}-tydiqa").exists()])
def test_official_layouts_of_tydi_s_training_half_score_as_beir_folders_do(tmp_path, model, lang):
    small = of_tydi(lang, role="train", split="dev", n_queries=60, n_documents=400)
    for mode in ("bm25", "dense", "hybrid"):
        check_layouts(small, tmp_path, Settings(mode, str(model)))


@needs_shared
@pytest.mark.slow
def test_official_layouts_score_as_beir_folders_do_by_a_real_model(tmp_path, e5_folder):
    small = of_tydi("sw", n_queries=20, n_documents=40)
    for mode in ("dense", "hybrid"):
        check_layouts(small, tmp_path, Settings(mode, str(e5_folder)), at_least=0.9)


def check_layouts(small, tmp_path, settings, *, at_least=0.0):
    """Scores of MIRACL's and Mr. TyDi's files, where the language has them, are those of a BEIR folder."""
    beir = reproduce(f"beir:{write_beir(tmp_path / 'beir', small)}", tmp_path / "out", settings=settings)
    expected = evaluate(read_run(beir.run), small.qrels, ["nDCG@10", "MRR@100", "R@100"]).mean
    assert expected["R@100"] > (0.7 if settings.retriever == "bm25" else at_least)
    layouts = [("miracl", write_miracl(tmp_path / "miracl", small, shards=1))]
    layouts += [("mrtydi", write_mrtydi(tmp_path / "hub", small))]
    write_archive(tmp_path / "archive", small)
    layouts += [("mrtydi", tmp_path / "archive")]
    for key, root in layouts:
        result = reproduce(f"{key}/{small.lang}", tmp_path / f"out-{root.name}", settings=settings, root=root)
        assert result.passages == len(small.documents) and result.topics == len(small.qrels)
        assert scores(result) == {name: expected[name] for name in scores(result)}


def test_all_languages_small_ones_first_and_missing_ones_left_out(tmp_path):
    root = tmp_path / "root"
    write_miracl(root, of_sample("th"))
    write_miracl(root, of_sample("ar"))
    write_mrtydi(root, of_sample("en"))
    done = reproduce_many(None, tmp_path / "out", settings=[Settings()], every=True, root=root)
    # By the size of the published collections: Thai has half a million passages, Arabic two million.
    assert [one.address for one in done.results] == ["miracl/th", "miracl/ar", "mrtydi/en"]
    assert len(done.skipped) == 18 + 11 - 3
    assert "lacks files of miracl/sw" in done.skipped["miracl/sw"]


def test_a_stopped_reproduction_goes_on(root, tmp_path, monkeypatch):
    def stop(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(reproducing, "evaluate", stop)
        reproduce("miracl/ar", tmp_path / "out", root=root)
    monkeypatch.setattr(reproducing, "build_index", None)  # the index is there
    assert reproduce("miracl/ar", tmp_path / "out", root=root).passages == 25


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(InputError, match=r"miracl/sw is not on this machine \(.*HF_HUB_OFFLINE"):
        reproduce("miracl/sw", tmp_path / "out")
    with pytest.raises(InputError, match="Name a collection, such as miracl/sw, or give --all"):
        reproduce_many(None, tmp_path / "out", settings=[Settings()])
    with pytest.raises(InputError, match="Nothing to reproduce. The first that is missing: miracl/yo"):
        reproduce_many(None, tmp_path / "out", settings=[Settings()], every=True)
    assert not (tmp_path / "out").exists()


def test_a_broken_result_file_is_no_result(root, tmp_path):
    first = reproduce("miracl/ar", tmp_path / "out", root=root)
    file = tmp_path / "out" / "results" / "miracl-ar-dev.bm25.json"
    assert json.loads(file.read_text())["topics"] == 40
    file.write_text("{")
    assert reproduce("miracl/ar", tmp_path / "out", root=root) == first
