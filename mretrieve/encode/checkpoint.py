"""Find an embedding model by name and read how it wants to be used: prompts, pooling, length."""

import hashlib
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mretrieve.cache import cache_folder, make_once
from mretrieve.errors import InputError
from mretrieve.models.config_file import is_nomic, read_nomic_config
from mretrieve.models.embedded import embedded_folder
from mretrieve.models.modules import read_modules
from mretrieve.models.released import RELEASED, released_folder
from mretrieve.models.weights import read_json, weight_files

EMBEDDED = {"e5-small": "intfloat/multilingual-e5-small"}
"""Names of our own, and the hub checkpoint that each stands for where the weights are not embedded."""

OWN_NAMES = (*EMBEDDED, *RELEASED)
"""All names that need neither a folder nor the hub."""

# What models were trained with but do not write into their own settings (Wang et al., 2024).
_PROMPTS_BY_NAME = ((re.compile(r"(^|[-_/])e5-"), ("query: ", "passage: ")),)
_QUERY_NAMES = ("query", "s2p_query", "retrieval.query", "web_search_query")
_DOCUMENT_NAMES = ("document", "passage", "corpus", "retrieval.passage")
_POOLINGS = ("mean", "cls", "lasttoken")  # what our own code does
_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
_OTHER_FORMATS = ["onnx/*", "openvino/*"]


@dataclass(frozen=True)
class Checkpoint:
    """A sentence-transformers folder and what its settings say.

    `pooling` is `mean`, `cls`, `lasttoken` or, where the folder asks for anything else (other modules, a
    prompt left out of the pooling), `custom`: then sentence-transformers itself runs the model. `head` is
    the folder of a linear layer after pooling.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    pooling: str
    max_length: int
    query_prefix: str
    document_prefix: str
    head: Path | None = None

    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the sha256 of weights, tokenizer and settings.

        Hashing takes a second per gigabyte, so the result is remembered in the cache for as long as the
        files' sizes and times stay as they are.
        """
        files = [*weight_files(self.folder), *sorted(self.folder.glob("*.json"))]
        files += [] if self.head is None else [self.head / "model.safetensors"]
        files += sorted(self.folder.glob("*/config.json"))
        stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        key = hashlib.sha256(repr(stats).encode()).hexdigest()[:24]

        def fill(folder: Path) -> None:
            digest = hashlib.sha256()
            for file in files:
                digest.update(f"{file.relative_to(self.folder)}\0".encode())
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            (folder / "sha256").write_text(digest.hexdigest(), encoding="ascii")

        folder = make_once(cache_folder() / "fingerprints" / key, fill)
        return (folder / "sha256").read_text(encoding="ascii")[:16]


def find_checkpoint(model: str) -> Checkpoint:
    """Find a model by our own name, by folder, or by hub id.

    Args:
        model: `e5-small`, a sentence-transformers folder, or an id such as
            `intfloat/multilingual-e5-base`, fetched with the safetensors files only.

    Raises:
        InputError: there is no such model, or its folder lacks what is needed.
    """
    folder = _find_folder(model)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise InputError(f"{folder} is no model: it has no config.json. Give a sentence-transformers folder.")
    config = read_json(config_file)
    prompts = read_json(folder / "config_sentence_transformers.json").get("prompts") or {}
    modules = read_modules(folder)
    by_name = next((pair for pattern, pair in _PROMPTS_BY_NAME if pattern.search(model)), ("", ""))
    return Checkpoint(
        name=model,
        folder=folder,
        config=config,
        pooling=modules.pooling if modules.pooling in _POOLINGS else "custom",
        max_length=_max_length(folder, config),
        query_prefix=_prompt(prompts, _QUERY_NAMES, by_name[0]),
        document_prefix=_prompt(prompts, _DOCUMENT_NAMES, by_name[1]),
        head=modules.head,
    )


def _find_folder(model: str) -> Path:
    if model in EMBEDDED:
        embedded = embedded_folder()
        if embedded is not None:
            return embedded
        model = EMBEDDED[model]
    if model in RELEASED:
        return released_folder(model)
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{model} is a file. A model is a folder, a hub id, or one of: {_names()}.")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", model):
        near = get_close_matches(model, OWN_NAMES)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(
            f"Unknown model '{model}'.{hint} Give one of {_names()}, a sentence-transformers folder, or a "
            "hub id such as intfloat/multilingual-e5-base."
        )
    return _download(model)


def _names() -> str:
    return ", ".join(OWN_NAMES)


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    try:
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=_HUB_FILES,
            ignore_patterns=_OTHER_FORMATS,
        )
        return Path(folder)
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"Model '{model}' is neither a folder nor in the cache, and the hub cannot be reached. "
            "Connect to the network, set HF_ENDPOINT to a mirror, or give a folder."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(
            f"Model '{model}' could not be fetched from the hub: {str(error).splitlines()[0]} "
            "Check the name, and log in with `hf auth login` if it is a gated model."
        ) from error


def _prompt(prompts: dict[str, str], names: tuple[str, ...], default: str) -> str:
    return next((prompts[name] for name in names if prompts.get(name)), default)


def _max_length(folder: Path, config: dict[str, Any]) -> int:
    own = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    tokenizer = read_json(folder / "tokenizer_config.json").get("model_max_length")
    positions = config.get("max_position_embeddings") or config.get("n_positions") or 512
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        positions -= config["pad_token_id"] + 1
    if is_nomic(config):
        positions = read_nomic_config(folder).max_length
    return int(min(own or tokenizer or positions, positions))
