"""A BERT-like encoder in eight bits for ONNX Runtime: the fastest way on a CPU to embed one short query.

Weights have one scale per output. Activations are quantised as they come: each row is divided by its largest
value, without which a few tokens with large ones would cost all others their precision, and what comes out of
a norm is smoothed: channels that are large are made small, and their weights large (SmoothQuant; Xiao et al.,
2023, arXiv:2211.10438).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from mretrieve.encode.onnx_graph import CONTRIB, Graph
from mretrieve.models.bert import BertConfig

MIGRATION = 0.65
"""How much of a channel's size moves into its weights; 0.5 is the paper's, 0.65 a little closer here."""

_SAMPLE_TEXTS, _SAMPLE_LENGTH = 16, 24


def sample_ids(n_words: int) -> list[NDArray[np.int32]]:
    """Token ids drawn at random: which channels are large hardly depends on the text."""
    drawn = np.random.default_rng(0).integers(0, n_words, (_SAMPLE_TEXTS, _SAMPLE_LENGTH), dtype=np.int32)
    return list(drawn)


def int8_graph(config: BertConfig) -> bytes:
    """The serialised graph, with the inputs and the output of `bert_graph`."""
    graph = Graph()
    x = graph.norm("embedded", "embeddings.LayerNorm", config, "embeddings.LayerNorm.out")
    for layer in range(config.layers):
        x = _layer(graph, x, f"encoder.layer.{layer}.", config)
    graph.node("Reshape", [x, "rows"], "hidden")
    return graph.serialise(config, {"rows": [-1, config.hidden]}, ["hidden"])


def _layer(graph: Graph, x: str, prefix: str, config: BertConfig) -> str:
    hidden = config.hidden
    joined = f"{prefix}attention.self.qkv"
    qkv = _product(graph, _smooth(graph, x, joined, hidden), joined, hidden, 3 * hidden)
    parts = [f"{prefix}{part}" for part in ("q", "k", "v")]
    graph.split(qkv, parts)
    context = graph.node(
        "MultiHeadAttention",
        [*parts, graph.weight(f"{joined}.bias", 3 * hidden), "mask"],
        f"{prefix}context",
        domain=CONTRIB,
        num_heads=config.heads,
    )
    x = _add_and_norm(graph, context, x, f"{prefix}attention.output", hidden, config)
    inner = f"{prefix}intermediate.dense"
    y = _product(graph, _smooth(graph, x, inner, hidden), inner, hidden, config.ffn)
    y = graph.node(
        "BiasGelu", [y, graph.weight(f"{inner}.bias", config.ffn)], f"{prefix}gelu", domain=CONTRIB
    )
    return _add_and_norm(graph, y, x, f"{prefix}output", config.ffn, config)


def _add_and_norm(graph: Graph, x: str, residual: str, name: str, n_in: int, config: BertConfig) -> str:
    """Linear layer, residual and norm of `attention.output` or `output`."""
    out = _product(graph, x, f"{name}.dense", n_in, config.hidden)
    total = graph.node("Add", [out, residual], f"{name}.sum")
    total = graph.node("Add", [total, graph.weight(f"{name}.dense.bias", config.hidden)], f"{name}.all")
    return graph.norm(total, f"{name}.LayerNorm", config, f"{name}.LayerNorm.out")


def _smooth(graph: Graph, x: str, name: str, n_in: int) -> str:
    return graph.node("Mul", [x, graph.weight(f"{name}.smooth", n_in)], f"{name}.smoothed")


def _product(graph: Graph, x: str, name: str, n_in: int, n_out: int) -> str:
    """`x W^T`; the operator has one scale for all of x, so each row goes in divided by its largest value."""
    size = graph.node("Abs", [x], f"{name}.abs")
    size = graph.node("ReduceMax", [size], f"{name}.max", axes=[-1], keepdims=1)
    size = graph.node("Max", [size, graph.weight("tiny", 1)], f"{name}.size")  # a row of zeros
    even = graph.node("Div", [x, size], f"{name}.even")
    codes = graph.weight(f"{name}.int8", n_in, n_out, dtype=TensorProto.INT8)
    scale = graph.weight(f"{name}.scale", n_out)
    out = graph.node("DynamicQuantizeMatMul", [even, codes, scale], f"{name}.even.out", domain=CONTRIB)
    return graph.node("Mul", [out, size], f"{name}.out")


def int8_tensors(
    config: BertConfig, tensors: Mapping[str, NDArray[np.float32]], sizes: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[Any]]:
    """The weights of `int8_graph`.

    Args:
        config: the encoder's sizes.
        tensors: of the checkpoint, without embeddings.
        sizes: output of each norm, `NAME.out` -> (hidden,), the largest values without their signs.
    """
    made: dict[str, NDArray[Any]] = {n: t for n, t in tensors.items() if ".LayerNorm." in n}
    made["tiny"] = np.full(1, np.finfo(np.float32).tiny, np.float32)
    before = "embeddings.LayerNorm.out"
    for layer in range(config.layers):
        prefix = f"encoder.layer.{layer}."
        inside = f"{prefix}attention.output.LayerNorm.out"
        own = [f"{prefix}attention.self.{part}" for part in ("query", "key", "value")]
        _put(made, f"{prefix}attention.self.qkv", own, tensors, sizes[before])
        _put(made, f"{prefix}intermediate.dense", [f"{prefix}intermediate.dense"], tensors, sizes[inside])
        for name in (f"{prefix}attention.output.dense", f"{prefix}output.dense"):
            _put(made, name, [name], tensors, None)
        before = f"{prefix}output.LayerNorm.out"
    return made


def _put(
    made: dict[str, NDArray[Any]],
    name: str,
    parts: Sequence[str],
    tensors: Mapping[str, NDArray[np.float32]],
    sizes: NDArray[np.float32] | None,
) -> None:
    weight = np.concatenate([tensors[f"{part}.weight"] for part in parts])  # (n_out, n_in)
    if sizes is not None:
        largest = np.maximum(np.abs(weight).max(axis=0), 1e-6)
        factor = np.maximum(sizes, 1e-4) ** MIGRATION / largest ** (1 - MIGRATION)
        weight = weight * factor
        made[f"{name}.smooth"] = (1 / factor).astype(np.float32)
    scale = np.abs(weight).max(axis=1) / 127.0
    scale[scale == 0] = 1.0
    made[f"{name}.int8"] = np.ascontiguousarray(np.rint(weight / scale[:, None]).astype(np.int8).T)
    made[f"{name}.scale"] = scale.astype(np.float32)
    made[f"{name}.bias"] = np.concatenate([tensors[f"{part}.bias"] for part in parts])
