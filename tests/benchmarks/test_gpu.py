"""The benchmark for GPUs, run on the CPU; what it measures on a GPU needs one."""

import json
import sys

import faiss
import gpu
import numpy as np
import pytest


@pytest.fixture
def run_script(monkeypatch, tmp_path):
    def run(*arguments):
        path = tmp_path / "figures.json"
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--json", str(path), *map(str, arguments)])
        return gpu.main(), json.loads(path.read_text())

    return run


@pytest.mark.skipif(getattr(faiss, "get_num_gpus", int)() > 0, reason="FAISS sees a GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing(run_script, capsys):
    status, figures = run_script()
    assert (status, figures["gpus"], figures["found"]) == (2, 0, [])
    assert "sees no GPU" in capsys.readouterr().err


def test_on_the_cpu_all_but_cagra_are_measured(run_script, monkeypatch):
    monkeypatch.setattr(gpu, "lists_for", lambda n: 32)
    status, figures = run_script("--device", "cpu", "--n", 4000, "--dim", 32, "--queries", 50)
    assert status == 0
    found = figures["found"]
    assert [one["index"] for one in found if "left_out" in one] == ["CAGRA"]
    assert found[0]["index"] == "Flat" and found[0]["recall"] == 1.0
    probed = {one["parameters"]: one["recall"] for one in found if one["index"] == "IVF32,Flat"}
    assert probed["nprobe=8"] < 1.0 and probed["nprobe=32"] == 1.0  # all lists: exact


def test_nothing_is_begun_when_the_time_is_over(run_script):
    _, figures = run_script("--device", "cpu", "--n", 500, "--dim", 32, "--queries", 5, "--seconds", -1)
    assert {one["left_out"] for one in figures["found"]} == {"no time"}


def test_vectors_share_their_centres(monkeypatch):
    one, other = gpu.make_vectors(300, 16, seed=1), gpu.make_vectors(300, 16, seed=2)
    assert np.linalg.norm(one, axis=1) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(one, other)
    assert (one @ other.T).max(axis=1).mean() > 0.6
