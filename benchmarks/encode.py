"""Encoding speed on the CPU against sentence-transformers, on the same weights, in interleaved runs.

`python benchmarks/encode.py` encodes XQuAD's 240 English paragraphs with `SentenceTransformer.encode` (its
defaults: float32, batches of 32) and with mretrieve's number types in turn, and prints medians, ratios, the
agreement of the embeddings, nDCG@10 on four languages, and the share of this machine's bfloat16 matrix
peak that is reached. `--queries` times short queries instead: one, and batches of growing size, by backend,
to place `BULK_TOKENS` in `mretrieve/encode/choose.py` by.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from common import arguments, gemm_peak, ndcg, need, print_table, read_topics, write_json
from numpy.typing import NDArray

from mretrieve.datasets.source import open_source
from mretrieve.encode.choose import Backend, Dtype
from mretrieve.encode.encoder import Encoder

DTYPES = ("auto", "fp32", "int8")
RUNS = 5


def main() -> None:
    """Print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--queries", action="store_true", help="time short queries by backend")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    folder = need(options.data / "xquad")
    if options.queries:
        figures = compare_backends([query.text for query in read_topics(folder / "en", "test")[0]])
    else:
        figures = compare_peer(folder, options.runs)
    write_json(options.json, figures)


def compare_peer(folder: Path, runs: int) -> dict[str, object]:
    """Bulk encoding of paragraphs by everybody in turn."""
    from sentence_transformers import SentenceTransformer

    texts = [document.text for document in open_source(folder / "en").documents()]
    encoders = {dtype: Encoder("e5-small", dtype=dtype) for dtype in DTYPES}
    peer = SentenceTransformer(str(encoders["auto"].checkpoint.folder), device="cpu")
    calls: dict[str, Callable[[], NDArray[np.float32]]] = {
        "sentence-transformers": lambda: peer.encode(texts, prompt="passage: ", normalize_embeddings=True)
    }
    for dtype, encoder in encoders.items():
        calls[f"mretrieve {dtype}"] = lambda encoder=encoder: encoder.encode_documents(texts)  # type: ignore[misc]
    results = {name: call() for name, call in calls.items()}  # warms up
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    n_tokens = sum(min(count, 512) for count in encoders["auto"].count_tokens(texts))
    exact = results["sentence-transformers"]
    rows = []
    for name, median in medians.items():
        cosine = float((exact * results[name]).sum(axis=1).min())
        speed = medians["sentence-transformers"] / median
        rows.append([name, f"{n_tokens / median:,.0f}", f"{speed:.2f}", f"{cosine:.6f}"])
    print_table(["encoder", "tokens/s", "times the peer", "least cosine to fp32"], rows)
    peak = gemm_peak("bfloat16")
    reached = flops(encoders["auto"], texts) / medians["mretrieve auto"] / 1e9
    print(f"\nbf16 matrix peak {peak:.0f} GFLOP/s; mretrieve auto reaches {reached / peak:.0%} of it.\n")
    quality = quality_by_dtype(folder, encoders)
    return {"seconds": seconds, "rows": rows, "peak_gflops": peak, "gflops": reached, "nDCG@10": quality}


def quality_by_dtype(folder: Path, encoders: dict[str, Encoder]) -> dict[str, dict[str, float]]:
    """Dense nDCG@10 where documents and queries are encoded in bulk, each type by its own encoder."""
    table: dict[str, dict[str, float]] = {}
    for lang in ("en", "hi", "th", "ar"):
        queries, qrels = read_topics(folder / lang, "test")
        documents = list(open_source(folder / lang).documents())
        for dtype, encoder in encoders.items():
            scores = (
                encoder.encode_queries([q.text for q in queries])
                @ encoder.encode_documents([d.text for d in documents]).T
            )
            best = np.argsort(-scores, axis=1)[:, :10]
            run = {
                query.query_id: {documents[row].doc_id: float(scores[n, row]) for row in best[n]}
                for n, query in enumerate(queries)
            }
            table.setdefault(lang, {})[dtype] = ndcg(run, qrels)
    print_table(["nDCG@10", *DTYPES], [[lang, *row.values()] for lang, row in table.items()])
    return table


def compare_backends(queries: Sequence[str]) -> dict[str, object]:
    """Median milliseconds of batches of queries by backend, models loaded."""
    onnx = Encoder("e5-small", dtype="fp32")
    int8 = Encoder("e5-small", dtype="int8")
    torch = Encoder("e5-small", dtype="bf16")
    rows = []
    for size in (1, 4, 16, 64, 256, 1024):
        texts = list(queries[:size])
        times: dict[str, list[float]] = {"onnx fp32": [], "onnx int8": [], "torch bf16": []}
        for number in range(8):
            for name, encoder in zip(times, (onnx, int8, torch), strict=True):
                embed = encoder._backend(*_PINNED[name])
                ids = encoder._tokenize(["query: " + text for text in texts], max_length=512)
                start = time.perf_counter()
                for begin in range(0, size, 64):
                    embed(ids[begin : begin + 64])
                if number:
                    times[name].append((time.perf_counter() - start) * 1000)
        tokens = sum(onnx.count_tokens(texts, query=True))
        rows.append([size, tokens, *(f"{statistics.median(one):.1f}" for one in times.values())])
    print_table(["queries", "tokens", "onnx fp32 ms", "onnx int8 ms", "torch bf16 ms"], rows)
    return {"rows": rows}


_PINNED: dict[str, tuple[Backend, Dtype]] = {
    "onnx fp32": ("onnx", "fp32"),
    "onnx int8": ("onnx", "int8"),
    "torch bf16": ("torch", "bf16"),
}


def flops(encoder: Encoder, texts: Sequence[str]) -> float:
    """Multiplications and additions of the encoder's matrices, attention included."""
    config = encoder.checkpoint.config
    hidden, ffn, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    lengths = np.minimum(encoder.count_tokens(texts), 512).astype(float)
    per_token = 2 * (4 * hidden * hidden + 2 * hidden * ffn)
    return float(layers * (per_token * lengths.sum() + 4 * hidden * (lengths**2).sum()))


if __name__ == "__main__":
    main()
