"""Encoding speed on the CPU against sentence-transformers, on the same weights, in interleaved runs.

`python benchmarks/encode.py` encodes XQuAD's 240 English paragraphs with `SentenceTransformer.encode` (its
defaults: float32, batches of 32) and with mretrieve's number types in turn, and prints medians, ratios, the
agreement of the embeddings, nDCG@10 on four languages, and the share of this machine's bfloat16 matrix
peak that is reached. `--queries` times short queries instead: one, and batches of growing size, by backend,
to place `BULK_TOKENS` and `QUERY_TOKENS` in `mretrieve/encode/choose.py` by, and says what eight bits cost.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from common import arguments, gemm_peak, ndcg, need, print_table, read_topics, write_json
from numpy.typing import NDArray
from ranking import best_run

from mretrieve.datasets.source import open_source
from mretrieve.encode.backends import Embed, architecture_of, load_short_queries
from mretrieve.encode.encoder import Encoder
from mretrieve.encode.threads import cores, share_cores
from mretrieve.types import Document, Qrels, Query

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
        figures |= {"nDCG@10": quality_of_short_queries(folder)}
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
            asked = encoder.encode_queries([query.text for query in queries])
            vectors = encoder.encode_documents([document.text for document in documents])
            table.setdefault(lang, {})[dtype] = dense_ndcg(asked, vectors, queries, documents, qrels)
    print_table(["nDCG@10", *DTYPES], [[lang, *row.values()] for lang, row in table.items()])
    return table


def compare_backends(queries: Sequence[str]) -> dict[str, object]:
    """Median milliseconds of batches of queries by backend, models loaded."""
    onnx = Encoder("e5-small", dtype="fp32")
    int8 = Encoder("e5-small", dtype="int8")
    torch = Encoder("e5-small", dtype="bf16")
    alone = load_short_queries(
        int8.checkpoint, architecture_of(int8.checkpoint), device="cpu", dtype="auto", threads=(1,)
    )
    assert alone, "this CPU has no VNNI"
    in_bf16 = torch._backend("torch", "bf16")

    def on_one_core(ids: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        share_cores(1)
        try:
            return in_bf16(ids)
        finally:
            share_cores(cores())

    backends: dict[str, Embed] = {
        "onnx fp32": onnx._backend("onnx", "fp32"),
        "onnx int8": int8._backend("onnx", "int8"),
        "torch bf16": in_bf16,
        "onnx int8, one core": alone[0],
        "torch bf16, one core": on_one_core,
    }
    share_cores(cores())
    rows = []
    for size in (1, 2, 4, 8, 16, 64, 256, 1024):
        ids = onnx._tokenize(["query: " + text for text in queries[:size]], max_length=512)
        times: dict[str, list[float]] = {name: [] for name in backends}
        for number in range(8 if size > 16 else 40):
            for name, embed in backends.items():
                start = time.perf_counter()
                for begin in range(0, size, 64):
                    embed(ids[begin : begin + 64])
                if number:
                    times[name].append((time.perf_counter() - start) * 1000)
        tokens = sum(map(len, ids))
        rows.append([size, tokens, *(f"{statistics.median(one):.1f}" for one in times.values())])
    print_table(["queries", "tokens", *(f"{name} ms" for name in backends)], rows)
    return {"rows": rows}


def quality_of_short_queries(folder: Path) -> dict[str, dict[str, float]]:
    """Dense nDCG@10 of queries that come one by one, as a search sends them, and the least cosine."""
    exact, short = Encoder("e5-small", dtype="fp32"), Encoder("e5-small")
    documents_by = Encoder("e5-small")
    documents_by.prefer_bulk()
    table: dict[str, dict[str, float]] = {}
    for lang in sorted(one.name for one in folder.iterdir() if one.is_dir()):
        queries, qrels = read_topics(folder / lang, "test")
        documents = list(open_source(folder / lang).documents())
        vectors = documents_by.encode_documents([document.text for document in documents])
        by_type = {
            "fp32": exact.encode_queries([query.text for query in queries]),
            "one by one": np.concatenate([short.encode_queries([query.text]) for query in queries]),
        }
        row = {name: dense_ndcg(asked, vectors, queries, documents, qrels) for name, asked in by_type.items()}
        cosine = (by_type["fp32"] * by_type["one by one"]).sum(axis=1)
        table[lang] = row | {"mean cosine": float(cosine.mean()), "least cosine": float(cosine.min())}
    header = ["nDCG@10", *next(iter(table.values()))]
    print_table(header, [[lang, *row.values()] for lang, row in table.items()])
    return table


def dense_ndcg(
    asked: NDArray[np.float32],
    vectors: NDArray[np.float32],
    queries: Sequence[Query],
    documents: Sequence[Document],
    qrels: Qrels,
) -> float:
    """nDCG@10 of exact search."""
    run = best_run(
        [query.query_id for query in queries],
        asked,
        [document.doc_id for document in documents],
        vectors,
        top_k=10,
    )
    return ndcg(run, qrels)


def flops(encoder: Encoder, texts: Sequence[str]) -> float:
    """Multiplications and additions of the encoder's matrices, attention included."""
    config = encoder.checkpoint.config
    hidden, ffn, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    lengths = np.minimum(encoder.count_tokens(texts), 512).astype(float)
    per_token = 2 * (4 * hidden * hidden + 2 * hidden * ffn)
    return float(layers * (per_token * lengths.sum() + 4 * hidden * (lengths**2).sum()))


if __name__ == "__main__":
    main()
