"""Where FAISS sees no GPU, everything stays on the CPU, and one line says so; GPUs need one to be tested."""

import logging

import faiss
import numpy as np
import pytest

from mretrieve.index import faiss_gpu
from mretrieve.index.factory import make_index
from mretrieve.index.faiss import DenseIndex, build_dense
from mretrieve.index.faiss_gpu import to_gpus, train_on_gpus, use_gpus
from mretrieve.planning import clustered_vectors

needs_none = pytest.mark.skipif(getattr(faiss, "get_num_gpus", int)() > 0, reason="FAISS sees a GPU")
DIM = 32


@needs_none
@pytest.mark.parametrize(("device", "n_lines"), [("auto", 0), ("cpu", 0), ("cuda", 1)])
def test_without_gpus_one_line_says_so_where_they_were_asked_for(caplog, device, n_lines):
    index = make_index(faiss, "Flat", DIM)
    faiss_gpu._tell_once.cache_clear()
    with caplog.at_level(logging.WARNING, "mretrieve"):
        assert to_gpus(faiss, index, device=device) is index
        assert to_gpus(faiss, index, device=device) is index  # the second of many segments
    assert len(caplog.messages) == n_lines
    assert all("sees no GPU" in line and "\n" not in line for line in caplog.messages)


@needs_none
def test_an_index_built_and_searched_for_cuda_works_without(tmp_path):
    vectors = clustered_vectors(1000, DIM)
    np.save(tmp_path / "0.npy", vectors)
    files = []
    for device in ("cuda", "cpu"):
        path = tmp_path / device
        build_dense([tmp_path / "0.npy"], path, factory="IVF8,Flat", device=device)
        files.append(path.read_bytes())
    assert files[0] == files[1]
    index = DenseIndex.open(tmp_path / "cuda", search="nprobe=8", device="cuda")
    assert index.search(vectors[:1], 1)[1][0, 0] == 0


@needs_none
@pytest.mark.slow
def test_a_search_that_asks_for_cuda_answers_and_says_where_it_ran(command, small_index):
    """One line each of torch and of FAISS; nothing of either where nothing was asked for."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("torch sees a GPU")
    arguments = ["search", small_index, "a cat on a mat", "--mode", "dense"]
    faiss_gpu._tell_once.cache_clear()
    done, expected = command(*arguments, "--device", "cuda"), command(*arguments)
    assert (done.status, done.stdout) == (0, expected.stdout)
    assert [line.split()[0] for line in done.stderr.splitlines() if "sees no GPU" in line] == [
        "torch",
        "FAISS",
    ]
    assert "GPU" not in expected.stderr


@needs_none
def test_an_index_is_built_for_the_device_that_was_asked_for(tmp_path, caplog, program):
    faiss_gpu._tell_once.cache_clear()
    program.small_build(tmp_path / "idx", 100, lexical=False, faiss="IVF2,Flat", device="cuda")
    assert [line for line in caplog.messages if "sees no GPU" in line]


def test_the_cpu_is_kept_to_where_it_is_asked_for():
    assert not use_gpus(faiss, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(getattr(faiss, "get_num_gpus", int)() == 0, reason="FAISS sees no GPU")
@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat", "IVF8,PQ8", "IVF8,PQ8,Refine(SQ8)", "HNSW8"])
def test_on_gpus_the_hits_are_those_of_the_cpu(factory):
    vectors = clustered_vectors(5000, DIM)
    index = make_index(faiss, factory, DIM)
    train_on_gpus(faiss, index)
    index.train(vectors)
    index.add(vectors)
    expected = index.search(vectors[:50], 10)[1]
    found = to_gpus(faiss, index).search(vectors[:50], 10)[1]
    assert np.mean(found == expected) > 0.95
