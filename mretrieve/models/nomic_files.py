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
from mretrieve.models.modules import (
    POOLING_KEYS,
    Head,
    Modules,
    head_settings,
    module_list,
    module_settings,
    read_head,
    read_modules,
    write_head,
)
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
_HEAD = "2_Dense"
_NOMIC_PROMPTS = {"query": "search_query: ", "passage": "search_document: "}


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
    head: Head | None = None,
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
        head: the linear layer after pooling; instead of that of `tokenizer`.

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
    modules = _modules(source)
    if head is None and modules.head is not None:
        head = read_head(modules.head)
    settings = _settings(source, model.sizes, prompts, max_length)
    settings |= _module_files(modules, model.sizes.hidden_size, head) | {"config.json": config}
    with new_folder(folder) as building:
        _fill(building, model, source, settings)
        if head is not None:
            write_head(head, building / _HEAD)
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
    return module_settings(
        prompts=old if prompts is None else prompts,
        max_length=min(length, config.max_length),
        lowercase=bool(sentence.get("do_lower_case", False)),
    )


def _module_files(modules: Modules, hidden: int, head: Head | None) -> dict[str, Any]:
    """`modules.json` and the settings of each module, by name."""
    names = ["Transformer", "Pooling"]
    names += ["Dense"] * (head is not None) + ["Normalize"] * modules.normalize
    files: dict[str, Any] = {
        "modules.json": module_list(names),
        # Old keys for servers that read the file themselves, the new ones for sentence-transformers 6.
        "1_Pooling/config.json": {
            "word_embedding_dimension": hidden,
            "embedding_dimension": hidden,
            **{key: name == modules.pooling for key, name in POOLING_KEYS.items()},
            "pooling_mode": modules.pooling,
            "include_prompt": True,
        },
    }
    if head is not None:
        files[f"{_HEAD}/config.json"] = head_settings(head)
    return files


def _modules(source: Path) -> Modules:
    """How a folder makes its embeddings.

    Raises:
        InputError: it cannot be taken over.
    """
    modules = read_modules(source)
    if modules.pooling == "custom":
        raise InputError(
            f"{source} makes its embeddings in a way that cannot be taken over (modules "
            f"{', '.join(modules.names)}): one pooling over all tokens, a linear layer or none, and a norm "
            "or none, can."
        )
    return modules
