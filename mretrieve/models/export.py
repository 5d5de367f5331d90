"""Write an encoder as sparse ONNX, one file or a folder for sentence-transformers, and check it.

From a file any ONNX runtime computes hidden states and embeddings; in the folder the file stands where
sentence-transformers' ONNX backend looks for it, beside tokenizer and settings. Both appear whole and
checked, or not at all.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.files import storage_errors, sync_folder, sync_tree
from mretrieve.models.bert import is_bert
from mretrieve.models.config_file import read_config_file
from mretrieve.models.modules import Head, read_head, read_modules
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.onnx_runtime import import_onnx_runtime
from mretrieve.models.weights import read_json

if TYPE_CHECKING:
    from mretrieve.models.nomic_moe import NomicMoEModel
    from mretrieve.models.onnx_files import Tell

DEFAULT_OPSET = 23
"""With one operator for attention and one for rotary positions; ONNX Runtime has them from 1.23 on."""

EMBEDDED_BYTES = 1 << 30
"""Weights of more than this lie in a file of their own: a protobuf may not exceed 2 GB, and is read whole."""

TOLERANCE = 1e-5
"""By which embeddings of a float32 export may differ from torch's, in any of their values."""

Progress = Callable[[str, int, int | None], None]
"""Called with what is done, how much of it, and of how much."""

_GRAPH = Path("onnx", "model.onnx")  # where sentence-transformers looks
_TEXT_LENGTHS = (1, 16, 33, 7, 128)
_COPIED = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model"),
    "config_sentence_transformers.json",
)


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    `path` is the ONNX file, `bytes` the size of it and of the file with its weights, if there is one.
    `difference` is the largest absolute difference to torch's embeddings (unit length, mean of the tokens)
    that texts of random tokens showed, `cosine` the least similarity.
    """

    path: Path
    bytes: int
    opset: int
    int8: bool
    difference: float
    cosine: float


def export_onnx(
    model: Path,
    output: Path,
    *,
    int8: bool = False,
    opset: int = DEFAULT_OPSET,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> ExportReport:
    """Write a NomicMoE, or a BERT-like encoder, as ONNX; of experts it computes only those routed to.

    The operators are standard ones, batch and length are free. A file takes `input_ids` and
    `attention_mask`, (batch, length) int64, and gives `last_hidden_state`, and `sentence_embedding` if it can
    pool as the model's folder says. A folder is loaded with
    `SentenceTransformer(folder, backend="onnx")`, without this package.

    Args:
        model: checkpoint folder: NomicMoE in the official layout or ours, dense or sparse, or BERT-like.
        output: a file if its name ends with `.onnx`, else a folder.
        int8: weights in eight bits, activations too where they meet them; made for CPUs with VNNI or the
            like (on older x86 the products may saturate).
        opset: of the standard operators; below 23, attention is put together from small ones, and slower.
        overwrite: whether an output that exists is replaced.
        on_progress: told how far the work is.

    Raises:
        InputError: the model cannot be exported, the opset is not supported, the output is in use, or what
            was written does not compute what torch does (then nothing is left of it).
    """
    from mretrieve.models.onnx_build import MAX_OPSET, MIN_OPSET

    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise InputError(f"Opset {opset} is not supported: choose from {MIN_OPSET} to {MAX_OPSET}.")
    output = output.absolute()
    _refuse_used(output, overwrite=overwrite)
    tell = on_progress or (lambda label, done, total: None)
    encoder = _load(model)
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        try:
            file = building / output.name if output.suffix == ".onnx" else building / _GRAPH
            file.parent.mkdir(exist_ok=True)
            _write_graph(
                file, encoder, _pooling(model), int8=int8, opset=opset, tell=partial(tell, "weights")
            )
            tell("check", 0, None)
            difference, cosine = _check(file, encoder, int8=int8)
            written = sum(part.stat().st_size for part in file.parent.iterdir())
            if output.suffix != ".onnx":
                _write_settings(building, model, encoder.sizes)
            sync_tree(building)
            _publish(building, output)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    place = output if output.suffix == ".onnx" else output / _GRAPH
    return ExportReport(place, written, opset, int8, difference, cosine)


def _refuse_used(output: Path, *, overwrite: bool) -> None:
    """Raise InputError unless the output is free, or an export that may be replaced."""
    if output.suffix == ".onnx":
        if output.is_dir():
            raise InputError(f"{output} is a folder: give another name for the ONNX file.")
        if output.exists() and not overwrite:
            raise InputError(f"{output} exists already: give another name, or --overwrite.")
    elif output.is_file():
        raise InputError(f"{output} is a file. Give a new folder, or a name that ends with .onnx.")
    elif output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise InputError(f"{output} exists already: give another name, or --overwrite.")
        if not (output / _GRAPH).is_file():
            raise InputError(f"{output} holds no {_GRAPH}, so it is not replaced: give another name.")


def _load(folder: Path) -> "NomicMoEModel":
    """The model in torch: the weights of the graph, and what it has to compute."""
    import torch

    from mretrieve.models.nomic_files import load_nomic_moe
    from mretrieve.models.nomic_hub import NomicMoEConfig
    from mretrieve.models.nomic_moe import NomicMoEModel
    from mretrieve.models.onnx_weights import check_router
    from mretrieve.models.upcycle import read_dense

    if not is_bert(read_config_file(folder)):
        encoder = load_nomic_moe(folder)
        check_router(encoder.sizes)
        return encoder
    config, tensors = read_dense(folder)
    with torch.device("meta"):
        encoder = NomicMoEModel(NomicMoEConfig(**config.to_dict()))
    encoder.load_state_dict(tensors, strict=True, assign=True)
    encoder.train(False)
    return encoder


def _pooling(folder: Path) -> dict[str, Any]:
    """How the folder's model pools, for `encoder_graph`; none where a graph cannot do it."""
    modules = read_modules(folder)
    mode = modules.pooling if modules.pooling in ("mean", "cls") else None
    head = None if modules.head is None else read_head(modules.head)
    return {"pooling": mode, "normalize": modules.normalize, "head": head}


def _write_graph(
    file: Path, encoder: "NomicMoEModel", pooling: dict[str, Any], *, int8: bool, opset: int, tell: "Tell"
) -> None:
    """Write the graph, and its weights into it or beside it."""
    from mretrieve.models.onnx_files import embed_weights, weight_bytes, write_weights
    from mretrieve.models.onnx_moe import encoder_graph
    from mretrieve.models.onnx_weights import graph_tensors

    config = encoder.sizes
    tensors = graph_tensors(
        config, {name: tensor.detach().numpy() for name, tensor in encoder.state_dict().items()}
    )
    if pooling["head"] is not None:
        tensors |= _head_tensors(pooling["head"])
    graph = encoder_graph(config, opset=opset, int8=int8, **pooling).model()
    if weight_bytes(graph) <= EMBEDDED_BYTES:
        embed_weights(graph, tensors, tell=tell)
    else:
        data = file.with_name(f"{file.name}_data")
        with data.open("wb") as stream:
            write_weights(graph, tensors, stream, location=data.name, tell=tell)
    file.write_bytes(graph.SerializeToString())


def _head_tensors(head: Head) -> dict[str, NDArray[np.float32]]:
    weight = {"head.weight": np.ascontiguousarray(head.weight.T)}
    return weight if head.bias is None else weight | {"head.bias": head.bias}


def _check(file: Path, encoder: "NomicMoEModel", *, int8: bool) -> tuple[float, float]:
    """Compare with torch on texts of random tokens: greatest difference and least cosine of embeddings.

    Where two experts are as good as tied for a token, rounding decides, and the results part. That is no
    error, and rare; so other texts are tried before the file is called wrong.
    """
    import onnx

    ort = import_onnx_runtime()

    onnx.checker.check_model(str(file), full_check=True)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    difference, cosine = 2.0, -1.0
    for seed in range(3):
        found, wanted = _probe(session, encoder, seed)
        if (d := float(np.abs(found - wanted).max())) <= difference:
            difference, cosine = d, float((found * wanted).sum(axis=1).min())
        if int8 or difference <= TOLERANCE:
            return difference, cosine
    raise InputError(
        f"The exported graph does not compute what the model does: embeddings differ by {difference:.1e}, "
        f"more than {TOLERANCE:.0e}. Nothing was written; try another --opset."
    )


def _probe(session: Any, encoder: "NomicMoEModel", seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Embeddings of one padded batch by the session and by torch, unit length."""
    import torch

    lengths = [min(length, encoder.sizes.max_length) for length in _TEXT_LENGTHS]
    ids = np.random.default_rng(seed).integers(0, encoder.sizes.vocab_size, (len(lengths), max(lengths)))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    found = session.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": mask})[0]
    with torch.inference_mode():
        output = encoder(torch.from_numpy(ids), torch.from_numpy(mask))
    pair = []
    for hidden in (found, output.last_hidden_state.numpy()):
        total = (hidden.astype(np.float64) * mask[:, :, None]).sum(axis=1)
        pair.append(total / np.linalg.norm(total, axis=1, keepdims=True))
    return pair[0], pair[1]


def _write_settings(folder: Path, model: Path, config: NomicConfig) -> None:
    """What sentence-transformers reads beside the graph: as in the model's folder, with another config."""
    for name in _COPIED:
        if (model / name).is_file():
            shutil.copyfile(model / name, folder / name)
    sentence = read_json(model / "sentence_bert_config.json")
    length = min(sentence.get("max_seq_length") or 512, config.max_length)
    settings: dict[str, Any] = {
        "config.json": _plain_config(config),
        "sentence_bert_config.json": {"do_lower_case": False} | sentence | {"max_seq_length": length},
    }
    if (model / "modules.json").is_file():
        modules = json.loads((model / "modules.json").read_text(encoding="utf-8"))
        for path in [module["path"] for module in modules if module["path"]]:
            if (model / path).is_dir():  # Normalize has no files, and git keeps no empty folders
                shutil.copytree(model / path, folder / path)
    else:
        paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{name}"}
            for i, (name, path) in enumerate(paths.items())
        ]
        pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True}
        settings["1_Pooling/config.json"] = pooling
    for name, content in (settings | {"modules.json": modules}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def _plain_config(config: NomicConfig) -> dict[str, Any]:
    """A `config.json` that transformers knows without us.

    The ONNX backend takes sizes from it and computes nothing by it; so it names the architecture that the
    graph looks like from outside, and holds the real one beside.
    """
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_length,
        "type_vocab_size": config.type_vocab_size,
        "pad_token_id": config.pad_token_id,
        "exported_from": config.to_dict(),
    }


def _publish(building: Path, output: Path) -> None:
    """Give what is finished its name."""
    if output.suffix != ".onnx":
        building.chmod(0o755)
        old = building.with_name(f"{building.name}.old")
        if output.is_dir():
            output.rename(old)
        building.rename(output)
        shutil.rmtree(old, ignore_errors=True)
    else:
        data = output.with_name(f"{output.name}_data")
        if data.exists():  # a graph must never stand beside another's weights
            output.unlink(missing_ok=True)
            data.unlink()
        for name in (data.name, output.name):
            with suppress(FileNotFoundError):
                (building / name).rename(output.with_name(name))
    sync_folder(output.parent)
