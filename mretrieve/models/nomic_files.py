"""NomicMoE checkpoints: the hub's and our own format read strictly, sentence-transformers folders written."""

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from mretrieve.errors import InputError
from mretrieve.files import new_folder, refuse_used_folder
from mretrieve.models.config_file import read_nomic_config
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel
from mretrieve.models.nomic_official import official_config
from mretrieve.models.unigram import UNIGRAM_REST, UNIGRAM_TABLE, UNIGRAM_TRIE
from mretrieve.models.weights import check_tensors, read_json, stored_tensors

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "sentencepiece.bpe.model",
    "vocab.txt",
    UNIGRAM_TRIE,
    UNIGRAM_TABLE,
    UNIGRAM_REST,
)
_NOMIC_PROMPTS = {"query": "search_query: ", "passage": "search_document: "}
_POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def load_nomic_moe(
    folder: Path | str, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> NomicMoEModel:
    """Load a checkpoint in the official hub layout or in ours; in evaluation mode.

    The weights are memory-mapped copy-on-write: where dtype and device stay as in the file, nothing is
    copied, and other processes share the pages. Replace a checkpoint's files, do not write into them.

    Args:
        folder: holds `config.json` and safetensors.
        device: where the weights go.
        dtype: what they become.

    Raises:
        InputError: a file is missing or damaged, or a tensor missing, unknown or wrongly shaped.
    """
    folder = Path(folder)
    config = read_nomic_config(folder)
    with torch.device("meta"):
        model = NomicMoEModel(NomicMoEConfig(**config.to_dict()))
    stored = stored_tensors(folder)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_tensors(folder, {name: one.shape for name, one in stored.items()}, wanted)
    # One by one, so that a conversion holds one tensor twice and no more.
    tensors = {name: one.tensor().to(device, dtype) for name, one in stored.items()}
    model.load_state_dict(tensors, strict=True, assign=True)
    model.train(False)
    return model


def save_nomic_moe(
    model: NomicMoEModel,
    folder: Path | str,
    *,
    tokenizer: Path | str,
    prompts: Mapping[str, str] | None = None,
    max_length: int | None = None,
    official: bool = False,
) -> Path:
    """Write a sentence-transformers folder; it appears whole or not at all.

    The tensors have the official names in both formats, so any safetensors reader can use them.

    Args:
        model: its weights are stored in the dtype that they have.
        folder: where to; it must not exist, or be empty.
        tokenizer: a folder whose tokenizer, prompts, greatest length, pooling and norm are taken over;
            mean pooling and L2 norm where it does not say.
        prompts: by name, as `{"query": "search_query: "}`; instead of those of `tokenizer`.
        max_length: tokens after which texts are cut; instead of that of `tokenizer`.
        official: write the hub's `config.json` instead of ours, for programs that know only that one.
            transformers' own `nomic_bert` then takes the folder for its own and cannot load it.

    Returns:
        `folder`.

    Raises:
        InputError: the folder is in use, there is no tokenizer, `tokenizer` pools in a way that cannot be
            taken over, or the official format cannot say what the model is.
    """
    folder, source = Path(folder), Path(tokenizer)
    refuse_used_folder(folder)
    if not (source / "tokenizer.json").is_file():
        raise InputError(f"{source} has no tokenizer.json: give a folder with the model's tokenizer.")
    config = official_config(model.sizes) if official else _own_config(model)
    settings = _settings(source, model.sizes, prompts, max_length) | {"config.json": config}
    with new_folder(folder) as building:
        _fill(building, model, source, settings)
    return folder


def _own_config(model: NomicMoEModel) -> dict[str, Any]:
    content: dict[str, Any] = model.config.to_dict() | model.sizes.to_dict()
    content = {name: value for name, value in content.items() if not name.startswith("_")}
    return content | {"architectures": ["NomicMoEModel"], "dtype": str(model.dtype).removeprefix("torch.")}


def _fill(folder: Path, model: NomicMoEModel, source: Path, settings: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors leaves it to its owner alone
    for name in _existing(source, _TOKENIZER_FILES):
        shutil.copyfile(source / name, folder / name)
    for name, content in settings.items():
        (folder / name).parent.mkdir(exist_ok=True)
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (folder / name).write_text(text, encoding="utf-8")


def _existing(folder: Path, names: Iterable[str]) -> list[str]:
    return [name for name in names if (folder / name).is_file()]


def _settings(
    source: Path, config: NomicConfig, prompts: Mapping[str, str] | None, max_length: int | None
) -> dict[str, Any]:
    """The files beside the weights, by name."""
    old = read_json(source / "config_sentence_transformers.json").get("prompts") or _NOMIC_PROMPTS
    sentence = read_json(source / "sentence_bert_config.json")
    length = max_length or sentence.get("max_seq_length") or 512
    modules, mode = _modules(source)
    return {
        "modules.json": [
            {
                "idx": index,
                "name": str(index),
                "path": "" if index == 0 else f"{index}_{name}",
                "type": f"sentence_transformers.models.{name}",
            }
            for index, name in enumerate(modules)
        ],
        # Old keys for servers that read the file themselves, the new ones for sentence-transformers 6.
        "1_Pooling/config.json": {
            "word_embedding_dimension": config.hidden_size,
            "embedding_dimension": config.hidden_size,
            **{key: name == mode for key, name in _POOLING_KEYS.items()},
            "pooling_mode": mode,
            "include_prompt": True,
        },
        "sentence_bert_config.json": {
            "max_seq_length": min(length, config.max_length),
            "do_lower_case": bool(sentence.get("do_lower_case", False)),
        },
        "config_sentence_transformers.json": {
            "prompts": dict(old if prompts is None else prompts),
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }


def _modules(source: Path) -> tuple[list[str], str]:
    """The sentence-transformers modules of a folder and how it pools; the official ones by default."""
    file = source / "modules.json"
    if not file.is_file():
        return ["Transformer", "Pooling", "Normalize"], "mean"
    entries = json.loads(file.read_text(encoding="utf-8"))
    names = [entry["type"].rsplit(".", 1)[-1] for entry in entries]
    settings = read_json(source / entries[1]["path"] / "config.json") if len(entries) > 1 else {}
    chosen = [name for key, name in _POOLING_KEYS.items() if settings.get(key)]
    mode: Any = settings.get("pooling_mode") or (chosen[0] if len(chosen) == 1 else chosen)
    plain = names in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
    if not plain or mode not in _POOLING_KEYS.values() or not settings.get("include_prompt", True):
        raise InputError(
            f"{source} makes its embeddings in a way that cannot be taken over (modules {', '.join(names)}, "
            f"pooling {mode}): one pooling over all tokens, and a norm or none, can."
        )
    return names, mode
