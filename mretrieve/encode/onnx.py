"""The ONNX Runtime backend: starts in a tenth of a second, needs neither torch nor transformers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.cache import cache_folder, make_once
from mretrieve.models.bert import BertConfig, BertWeights, read_bert
from mretrieve.models.onnx_runtime import import_onnx_runtime
from mretrieve.models.weights import read_weights, weight_files

GRAPH_VERSION = 3  # raise when the graphs or the int8 weights change, so that cached ones are made anew

_GRAPH, _WEIGHTS, _REPORT = "model.onnx", "model.safetensors", "report.json"


class OnnxBert:
    """A BERT-like encoder on ONNX Runtime's CPU provider, in float32 or with int8 weights.

    Args:
        folder: the checkpoint.
        int8: compute with eight-bit codes; the first use of a checkpoint writes them to the cache.
        n_threads: that a call takes; 0 for as many as there are cores.

    Attributes:
        cosine: between its hidden states and those in float32, the mean over some texts; 1 without `int8`.

    Raises:
        InputError: the checkpoint is damaged.
    """

    def __init__(self, folder: Path, *, int8: bool = False, n_threads: int = 0) -> None:
        weights = read_bert(folder)
        self._inputs = _Inputs(weights)
        self.cosine = 1.0
        tensors: Mapping[str, NDArray[Any]] = weights.tensors
        if int8:
            cached = _cached_int8(folder, weights, self._inputs)
            tensors = read_weights(cached)
            self.cosine = float(json.loads((cached / _REPORT).read_text(encoding="utf-8"))["cosine"])
        else:
            cached = _cached_graph(weights.config)
        self._parts = (cached / _GRAPH).read_bytes(), tensors
        self._session = _Session(*self._parts, n_threads=n_threads)

    def with_threads(self, n_threads: int) -> "OnnxBert":
        """The same model for calls that take another number of threads; weights are shared."""
        twin = copy(self)
        twin._session = _Session(*self._parts, n_threads=n_threads)
        return twin

    def hidden_states(self, batch: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Last hidden states of all tokens, text after text, without padding.

        Args:
            batch: token ids of each text, (length,) int32.

        Returns:
            (n_tokens, hidden) float32.
        """
        feed, mask = self._inputs.of(batch)
        hidden: NDArray[np.float32] = self._session.run(["hidden"], feed)[0]
        return hidden if mask.all() else hidden[mask.reshape(-1)]


class _Inputs:
    """Token ids to what the graphs read."""

    def __init__(self, weights: BertWeights) -> None:
        words, places, types = (
            weights.tensors[f"embeddings.{part}_embeddings.weight"]
            for part in ("word", "position", "token_type")
        )
        self.words = words
        # Every token has type 0, so its row is added to the positions once, here.
        self.places = places[weights.config.first_position :] + types[0]

    def of(self, batch: Sequence[NDArray[np.int32]]) -> tuple[dict[str, NDArray[Any]], NDArray[np.bool_]]:
        """The graphs' inputs, and (n, width) where there are tokens."""
        lengths = np.array([len(ids) for ids in batch])
        width = int(lengths.max())
        mask = np.arange(width)[None, :] < lengths[:, None]
        embedded = np.zeros((*mask.shape, self.words.shape[1]), np.float32)
        embedded[mask] = self.words[np.concatenate(batch)]
        embedded += self.places[:width]
        return {"embedded": embedded, "mask": mask.astype(np.int32)}, mask


class _Session:
    """A session, and the arrays that it reads in place."""

    def __init__(self, graph: bytes, tensors: Mapping[str, NDArray[Any]], *, n_threads: int = 0) -> None:
        ort = import_onnx_runtime()

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # built as wanted
        options.intra_op_num_threads = n_threads
        # Its threads wait busily between layers, which is quick, but not between searches: FAISS and
        # Lucene need the cores then.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        needed = [name for name in tensors if not name.endswith("_embeddings.weight")]
        self._tensors = [np.ascontiguousarray(tensors[name]) for name in needed]
        self._values = [ort.OrtValue.ortvalue_from_numpy(tensor) for tensor in self._tensors]
        options.add_external_initializers(needed, self._values)
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(self, outputs: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        values: list[NDArray[np.float32]] = self._session.run(outputs, feed)
        return values


def _cached_graph(config: BertConfig) -> Path:
    """The folder of the graph in float32: all checkpoints of its sizes share it."""

    def fill(folder: Path) -> None:
        from mretrieve.encode.onnx_graph import bert_graph

        (folder / _GRAPH).write_bytes(bert_graph(config))

    return make_once(_cache_place("bert", config), fill)


def _cached_int8(checkpoint: Path, weights: BertWeights, inputs: _Inputs) -> Path:
    """The folder of a checkpoint's graph and weights in eight bits."""
    files = [file.resolve() for file in weight_files(checkpoint)]
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    place = _cache_place("bert-int8", weights.config, stats)
    return make_once(place, partial(_fill_int8, weights=weights, inputs=inputs))


def _cache_place(kind: str, *key: object) -> Path:
    digest = hashlib.sha256(repr((GRAPH_VERSION, *key)).encode()).hexdigest()[:16]
    return cache_folder() / "graphs" / f"{kind}-{digest}"


def _fill_int8(folder: Path, *, weights: BertWeights, inputs: _Inputs) -> None:
    """Write graph and weights, and how close they are to float32."""
    from safetensors.numpy import save_file

    from mretrieve.encode.onnx_graph import bert_graph
    from mretrieve.encode.onnx_int8 import int8_graph, int8_tensors, sample_ids

    batch = sample_ids(len(inputs.words))
    feed, _ = inputs.of(batch)
    names = [f"{name.removesuffix('.weight')}.out" for name in weights.tensors if "LayerNorm.weight" in name]
    exact, *normed = _Session(bert_graph(weights.config, norms=True), weights.tensors).run(
        ["hidden", *names], feed
    )
    sizes = {name: np.abs(values).max(axis=0) for name, values in zip(names, normed, strict=True)}
    graph, tensors = int8_graph(weights.config), int8_tensors(weights.config, weights.tensors, sizes)
    (rounded,) = _Session(graph, tensors).run(["hidden"], feed)
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(rounded, axis=1)
    report = {"cosine": float(((exact * rounded).sum(axis=1) / lengths).mean())}
    (folder / _GRAPH).write_bytes(graph)
    save_file(tensors, folder / _WEIGHTS)
    (folder / _REPORT).write_text(json.dumps(report), encoding="utf-8")
