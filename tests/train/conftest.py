"""Fixtures of the training tests: data and model once a session, a recipe as often as wanted."""

import shutil

import pytest
import torch
import yaml

from mretrieve.train.runner import run_recipe
from tests.train.tiny import tiny_base, tiny_data, tiny_reranker

MIX = {
    "align": {
        "data": "data/parallel",
        "batch_size": 6,
        "prompts": [["passage", "passage"], ["query", "query"]],
        "ranking": {"directions": ["query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"]},
        "targets": {},
    },
    "cross": {
        "data": "data/cross",
        "batch_size": 6,
        "batching": {"per_batch": 3},
        "ranking": {"margin": 0.0},
    },
    "mono": {
        "data": "data/mono",
        "batch_size": 4,
        "batching": {"languages": "same"},
        "similarities": {"temperature": 0.1},
    },
}


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """Small data; not to be changed."""
    return tiny_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A small dense model; not to be changed."""
    return tiny_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def reranker(tmp_path_factory):
    """A small cross-encoder; not to be changed."""
    return tiny_reranker(tmp_path_factory.mktemp("models") / "reranker")


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    """Small computations are slower with more; and what is translated is not kept for the user."""
    torch.set_num_threads(1)
    monkeypatch.setattr("mretrieve.mine.translation.cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def prepared(_prepared, stages, mined, tmp_path):
    """Stages `data` and `mined`, and a run folder in which they are done."""
    shutil.copytree(_prepared, tmp_path / "run")
    return {"data": stages["data"], "mined": mined}


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory, root, base):
    folder = tmp_path_factory.mktemp("prepared")
    stages = [{"name": "data"} | _data(root), {"name": "mined"} | _mined(base)]
    (folder / "small.yaml").write_text(yaml.safe_dump({"name": "small", "stages": stages}), encoding="utf-8")
    run_recipe(folder / "small.yaml", run_folder=folder / "run", device="cpu")
    return folder / "run"


@pytest.fixture
def mined(base):
    """Parameters of a stage that mines for `data/cross` and `data/mono`."""
    return _mined(base)


def _mined(base):
    return {
        "stage": "mine",
        "data": ["data/cross", "data/mono"],
        "model": str(base),
        "mode": "dense",
        "top_k": 20,
        "max_ratio": None,
        "per_query": 3,
    }


def _data(root):
    sets = {
        "mono": {"kind": "retrieval", "folders": ["train/*", "!train/multi-*"]},
        "cross": {"kind": "retrieval", "folders": ["train/multi-mlqa"], "splits": ["train", "train-xling"]},
        "parallel": {"kind": "parallel", "files": ["parallel/*.xz"], "pairs": 60},
    }
    return {"stage": "data", "root": str(root), "evaluation": ["eval/*"], "sets": sets}


@pytest.fixture
def stages(root, base):
    """Stages of a small recipe, to be changed at will: data, base, mix."""
    tuning = {
        "root": str(root),
        "folders": ["train/*", "!train/multi-*"],
        "cross_lingual": "train/multi-mlqa",
        "queries": 6,
        "passages": 12,
        "every": 4,
    }
    return {
        "data": _data(root),
        "base": {"stage": "upcycle", "base": str(base), "experts": 4},
        "mix": {
            "stage": "train",
            "model": "base",
            "teacher": str(base),
            "objectives": {name: dict(one) for name, one in MIX.items()},
            "steps": 6,
            "learning_rate": 1e-3,
            "max_tokens": 24,
            "bf16": False,
            "tuning": tuning,
            "save_every": 2,
            "log_every": 1,
        },
    }


@pytest.fixture
def write_recipe(tmp_path):
    """A function that writes stages (by name) and other keys as a recipe, and gives its path."""

    def write(stages, *, name="small", **keys):
        content = {"name": name, "stages": [{"name": key} | value for key, value in stages.items()]} | keys
        path = tmp_path / "training" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return write
