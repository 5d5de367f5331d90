"""NomicMoE on ONNX Runtime: for a few texts on the CPU, with neither torch nor transformers.

A session opens in a tenth of a second whatever the size of the model, because it reads its weights by memory
map: in float32 from the checkpoint itself, else from a converted copy in the cache. That leaves them as they
lie, and products want them packed, which takes seconds for a large model but saves a third of each call. So
a session that is used again and again is exchanged for a packed one.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.cache import cache_folder, make_once
from mretrieve.models.config_file import read_nomic_config
from mretrieve.models.nomic_shapes import tensor_shapes
from mretrieve.models.onnx_runtime import import_onnx_runtime
from mretrieve.models.onnx_weights import check_router, graph_tensors, mapped_folder
from mretrieve.models.weights import check_tensors, stored_tensors

GRAPH_VERSION = 2  # raise when the graphs change, so that cached ones are made anew
PACK_AFTER = 25
"""Calls after which the time that packed weights would have saved is about what packing takes."""

_OPSET = 23
_WORDS = "embeddings.word_embeddings.weight"
_DATA = "weights.bin"


class OnnxNomic:
    """A NomicMoE encoder on ONNX Runtime's CPU provider, in float32 or with int8 weights.

    Args:
        folder: checkpoint, official or ours, with a softmax router.
        int8: compute with eight-bit codes; the first use of a checkpoint writes them to the cache.

    Raises:
        InputError: the checkpoint is damaged, or has a router that these graphs do not know.
    """

    def __init__(self, folder: Path, *, int8: bool = False) -> None:
        self.config = read_nomic_config(folder)
        check_router(self.config)
        self._int8 = int8
        self._stored = stored_tensors(folder)
        found = {name: stored.shape for name, stored in self._stored.items()}
        check_tensors(folder, found, tensor_shapes(self.config))
        self._words = self._stored[_WORDS].map()
        self._calls = 0
        self._session = self._open(packed=False)

    def hidden_states(self, batch: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Last hidden states of all tokens, text after text, without padding.

        Args:
            batch: token ids of each text, (length,) int32.

        Returns:
            (n_tokens, hidden) float32.
        """
        self._calls += 1
        if self._calls == PACK_AFTER:
            self._session = self._open(packed=True)
        lengths = np.array([len(ids) for ids in batch])
        visible = np.arange(lengths.max())[None, :] < lengths[:, None]  # (n, width)
        positions = np.concatenate([np.arange(length) for length in lengths])
        embedded = self._look_up(np.concatenate(batch))
        embedded += self._places[positions] if len(self._places) > 1 else self._places
        feed = {
            "embedded": embedded,
            "positions": positions,
            "row_of": np.maximum(np.cumsum(visible.reshape(-1)) - 1, 0).reshape(visible.shape),
            "place_of": np.flatnonzero(visible),
            "visible": visible,
        }
        hidden: NDArray[np.float32] = self._session.run(["hidden"], feed)[0]
        return hidden

    def _look_up(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Word embeddings, (n_tokens, hidden), straight from the file: the table is never copied."""
        rows = self._words[ids]
        if self._stored[_WORDS].kind == "BF16":
            return (rows.astype(np.uint32) << 16).view(np.float32)
        return rows.astype(np.float32, copy=False)

    @cached_property
    def _places(self) -> NDArray[np.float32]:
        """What is added to the words: (positions, hidden), or (1, hidden) with rotary positions."""
        named = {name: stored for name, stored in self._stored.items() if name.startswith("embeddings.")}
        del named[_WORDS]
        return graph_tensors(self.config, {name: stored.array() for name, stored in named.items()})["places"]

    def _open(self, *, packed: bool) -> Any:
        ort = import_onnx_runtime()

        graph, weights = self._graph()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if not self._int8:  # built as wanted; only integer products have to be joined with their scales
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Busy waiting between layers is quick; between searches FAISS and Lucene need the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.disable_prepacking", "0" if packed else "1")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights))
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def _graph(self) -> tuple[bytes, Path]:
        """The serialised graph, and the folder in which it finds its weights."""
        mapped = None if self._int8 else mapped_folder(self._stored)
        files = sorted({stored.file.resolve() for stored in self._stored.values()})
        stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        key = repr((GRAPH_VERSION, self.config, self._int8, stats))
        name = "nomic-" + hashlib.sha256(key.encode()).hexdigest()[:16]
        fill = partial(self._fill, mapped=mapped is not None)
        folder = make_once(cache_folder() / "graphs" / name, fill)
        return (folder / "model.onnx").read_bytes(), folder if mapped is None else mapped

    def _fill(self, folder: Path, *, mapped: bool) -> None:
        """Write the graph, and its weights where the checkpoint does not hold them as they are needed."""
        from mretrieve.models.onnx_files import embed_weights, refer_to_checkpoint, write_weights
        from mretrieve.models.onnx_moe import rows_graph

        graph = rows_graph(self.config, opset=_OPSET, int8=self._int8).model()
        if mapped:
            refer_to_checkpoint(graph, self._stored)
            embed_weights(graph, graph_tensors(self.config, {}))  # rotary tables
        else:
            arrays = {name: stored.array() for name, stored in self._stored.items() if name != _WORDS}
            with (folder / _DATA).open("wb") as stream:
                write_weights(graph, graph_tensors(self.config, arrays), stream, location=_DATA)
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
