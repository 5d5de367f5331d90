"""Cut a vocabulary down to some of its pieces: the tokenizer's files and the rows of the embeddings.

Only Unigram tokenizers (SentencePiece's, as XLM-R has them). Ids stay in their order, so that what a file
takes for granted of them, such as special tokens first and `<mask>` last, remains true.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mretrieve.encode.checkpoint import Checkpoint
from mretrieve.errors import InputError
from mretrieve.models.nomic_moe import NomicMoEModel
from mretrieve.models.unigram import UNIGRAM_REST, unigram_pre_tokenizer, write_unigram
from mretrieve.models.weights import read_json
from mretrieve.understand.rebuild import rebuild
from mretrieve.understand.vocabulary import pieces_to_keep, pieces_within

_BY_ID = ("embeddings.word_embeddings.weight", "router_embeddings.weight")
"""Tables with a row for each id; the second belongs to the router `stable`."""

_OTHER_VOCABULARIES = {"sentencepiece.bpe.model", "spiece.model", "vocab.txt", "merges.txt"}


def check_vocabulary(folder: Path) -> None:
    """Raise InputError unless a folder's tokenizer is one whose vocabulary can be trimmed."""
    content = read_json(folder / "tokenizer.json")
    kind = (content.get("model") or {}).get("type")
    if kind != "Unigram":
        found = f"has a tokenizer of type {kind}" if kind else "has no tokenizer.json"
        raise InputError(
            f"{folder} {found}: only Unigram tokenizers, as those of XLM-R, E5 and Nomic v2, can be trimmed."
        )


def choose_pieces(checkpoint: Checkpoint, texts: Sequence[str]) -> list[int]:
    """Ids to keep for text like `texts`: what occurs in it or in a prompt, and what spells new words.

    Args:
        checkpoint: of a model with a Unigram tokenizer.
        texts: of the languages to keep.

    Returns:
        Ids, rising.
    """
    folder = checkpoint.folder
    content = read_json(folder / "tokenizer.json")
    prompts = read_json(folder / "config_sentence_transformers.json").get("prompts") or {}
    prompts = {*prompts.values(), checkpoint.query_prefix, checkpoint.document_prefix}
    pieces = [(piece, score) for piece, score in content["model"]["vocab"]]
    used = pieces_within([piece for piece, _ in pieces], _words(folder, [*texts, *prompts]))
    used.update(token["id"] for token in content["added_tokens"])
    if content["model"].get("unk_id") is not None:
        used.add(content["model"]["unk_id"])
    if (folder / UNIGRAM_REST).is_file():
        used.add(len(pieces) - 1)  # that form takes the last piece for `<mask>`
    return sorted(pieces_to_keep(pieces, used, texts))


def _words(folder: Path, texts: Sequence[str]) -> set[str]:
    """What a tokenizer cuts texts into before it looks for pieces, which never cross these words' ends."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words: set[str] = set()
    for text in texts:
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        if tokenizer.pre_tokenizer is None:
            words.add(text)
        else:
            words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text))
    return words


def trim_embeddings(model: NomicMoEModel, kept: Sequence[int]) -> NomicMoEModel:
    """The model with the rows of the kept ids alone, in their order; padding rows go too."""
    numbers = torch.tensor(kept, device=model.device)
    tensors: Mapping[str, Tensor] = model.state_dict()
    changed = {name: tensors[name].index_select(0, numbers) for name in _BY_ID if name in tensors}
    pad = model.sizes.pad_token_id
    return rebuild(model, changed, vocab_size=len(kept), pad_token_id=kept.index(pad) if pad in kept else 0)


def trim_tokenizer(source: Path, folder: Path, kept: Sequence[int]) -> None:
    """Write a model's tokenizer and settings into an empty folder, with the kept ids alone.

    Everything that sentence-transformers and `save_nomic_moe` read beside the weights comes along. Forms of
    the vocabulary that are not rewritten here are left out, because they would contradict it.

    Args:
        source: a model's folder, with a Unigram tokenizer.
        folder: where to.
        kept: rising ids, special and added tokens among them.
    """
    new = {old: place for place, old in enumerate(kept)}
    for file in [*source.glob("*.json"), *source.glob("*/config.json")]:
        if ".safetensors." not in file.name and file.name not in _OTHER_VOCABULARIES:
            target = folder / file.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, target)
    content = read_json(source / "tokenizer.json")
    pieces = [tuple(content["model"]["vocab"][old]) for old in kept if old < len(content["model"]["vocab"])]
    rest = read_json(source / UNIGRAM_REST)
    if rest:
        special = {name: new[number] for name, number in rest["special"].items()}
        normalizer = {int(point): text for point, text in rest["normalizer"].items()}
        write_unigram(folder, pieces, normalizer, special=special)
        content = _with_unknown_apart(content, pieces)
    _write(folder / "tokenizer.json", _renumbered(content, pieces, new), indent=None)
    _renumber_settings(folder, new)


def _renumbered(
    content: Mapping[str, Any], pieces: Sequence[tuple[str, float]], new: Mapping[int, int]
) -> dict[str, Any]:
    """A `tokenizer.json` with other pieces, and their new ids wherever it names ids."""
    unknown = content["model"].get("unk_id")
    model = content["model"] | {
        "vocab": [list(piece) for piece in pieces],
        "unk_id": None if unknown is None else new[unknown],
    }
    added = [token | {"id": new[token["id"]]} for token in content["added_tokens"]]
    changed = {"model": model, "added_tokens": added}
    if content.get("post_processor"):
        changed["post_processor"] = _processor(content["post_processor"], new)
    if content.get("padding"):
        changed["padding"] = content["padding"] | {"pad_id": new.get(content["padding"]["pad_id"], 0)}
    return dict(content) | changed


def _processor(processor: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    if "processors" in processor:
        changed["processors"] = [_processor(one, new) for one in processor["processors"]]
    for name in ("sep", "cls"):  # of BertProcessing and RobertaProcessing
        if name in processor:
            token, number = processor[name]
            changed[name] = [token, new[number]]
    if "special_tokens" in processor:  # of TemplateProcessing
        changed["special_tokens"] = {
            token: entry | {"ids": [new[number] for number in entry["ids"]]}
            for token, entry in processor["special_tokens"].items()
        }
    return dict(processor) | changed


def _with_unknown_apart(content: dict[str, Any], pieces: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Our own tokenizers cut characters that no piece has apart; now there are more of these.

    Those that only longer pieces had have never been cut apart, and stay as they were.
    """
    old = [tuple(entry) for entry in content["model"]["vocab"]]
    if content["pre_tokenizer"] != unigram_pre_tokenizer(old):
        return content
    single = {piece for piece, _ in old}
    inside = sorted(set().union(*single) - single)
    known = [*pieces[:-1], *((character, 0.0) for character in inside), pieces[-1]]
    return content | {"pre_tokenizer": unigram_pre_tokenizer(known)}


def _renumber_settings(folder: Path, new: Mapping[int, int]) -> None:
    """Mend the ids in the files that transformers keeps beside the tokenizer."""
    settings = folder / "tokenizer_config.json"
    content = read_json(settings)
    if decoder := content.get("added_tokens_decoder"):
        renumbered = _existing(((int(old), token) for old, token in decoder.items()), new)
        _write(settings, content | {"added_tokens_decoder": {str(n): token for n, token in renumbered}})
    added = folder / "added_tokens.json"
    if tokens := read_json(added):
        pairs = _existing(((old, token) for token, old in tokens.items()), new)
        _write(added, {token: number for number, token in pairs})


def _existing(pairs: Iterable[tuple[int, Any]], new: Mapping[int, int]) -> list[tuple[int, Any]]:
    return [(new[old], value) for old, value in pairs if old in new]


def _write(file: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n", encoding="utf-8")
