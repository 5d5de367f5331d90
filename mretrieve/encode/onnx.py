"""The ONNX Runtime backend: starts in a tenth of a second, needs neither torch nor transformers."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.cache import cache_folder, make_once
from mretrieve.models.bert import BertConfig, read_bert
from mretrieve.models.onnx_runtime import import_onnx_runtime

GRAPH_VERSION = 2  # raise when `onnx_graph` changes, so that cached graphs are made anew


class OnnxBert:
    """A BERT-like encoder on ONNX Runtime's CPU provider, in float32 or with int8 weights."""

    def __init__(self, folder: Path, *, int8: bool = False) -> None:
        ort = import_onnx_runtime()

        weights = read_bert(folder)
        tensors: dict[str, NDArray[Any]] = dict(weights.tensors)
        self._words = tensors.pop("embeddings.word_embeddings.weight")
        places = tensors.pop("embeddings.position_embeddings.weight")[weights.config.first_position :]
        # Every token has type 0, so its row is added to the positions once, here.
        self._places = places + tensors.pop("embeddings.token_type_embeddings.weight")[0]
        graph = _cached_graph(weights.config, int8=int8)
        if int8:
            _quantize(tensors)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # built as wanted
        # Its threads wait busily between layers, which is quick, but not between searches: FAISS and
        # Lucene need the cores then.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        names = list(tensors)
        self._values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensors[n])) for n in names]
        options.add_external_initializers(names, self._values)
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._tensors = tensors  # the session reads these arrays in place

    def hidden_states(self, batch: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Last hidden states of all tokens, text after text, without padding.

        Args:
            batch: token ids of each text, (length,) int32.

        Returns:
            (n_tokens, hidden) float32.
        """
        lengths = np.array([len(ids) for ids in batch])
        width = int(lengths.max())
        mask = np.arange(width)[None, :] < lengths[:, None]  # (n, width)
        embedded = np.zeros((*mask.shape, self._words.shape[1]), np.float32)
        embedded[mask] = self._words[np.concatenate(batch)]
        embedded += self._places[:width]
        feed = {"embedded": embedded, "mask": mask.astype(np.int32)}
        hidden: NDArray[np.float32] = self._session.run(["hidden"], feed)[0]
        return hidden if mask.all() else hidden[mask.reshape(-1)]


def _cached_graph(config: BertConfig, *, int8: bool) -> bytes:
    key = repr((GRAPH_VERSION, config, int8))
    name = "bert-" + hashlib.sha256(key.encode()).hexdigest()[:16]

    def fill(folder: Path) -> None:
        from mretrieve.encode.onnx_graph import bert_graph

        (folder / "model.onnx").write_bytes(bert_graph(config, int8=int8))

    return (make_once(cache_folder() / "graphs" / name, fill) / "model.onnx").read_bytes()


def _quantize(tensors: dict[str, NDArray[Any]]) -> None:
    """Replace each weight of a linear layer by int8 values (n_in, n_out) and a scale per output."""
    for name in [n for n in tensors if n.startswith("encoder.") and tensors[n].ndim == 2]:
        weight = tensors.pop(name)  # (n_out, n_in)
        scale = np.abs(weight).max(axis=1) / 127.0
        scale[scale == 0] = 1.0
        rounded = np.rint(weight / scale[:, None]).astype(np.int8)
        tensors[f"{name}.int8"] = np.ascontiguousarray(rounded.T)
        tensors[f"{name}.scale"] = scale.astype(np.float32)
