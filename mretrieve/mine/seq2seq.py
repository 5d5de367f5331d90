"""Translation by any sequence-to-sequence model of transformers: NLLB, M2M100, OPUS-MT and their kin."""

import hashlib
import logging
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mretrieve.encode.choose import find_device
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.mine.language_codes import LanguageCodes, find_codes
from mretrieve.mine.sentences import has_spaces, join_sentences, split_sentences
from mretrieve.mine.translator import Languages

logger = logging.getLogger(__name__)

TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 16_384}
"""Tokens of a batch with its padding."""

_LONGEST = 400
"""Tokens of a sentence; longer ones are cut at a space, since models were trained on less."""

_GROWTH = 2
_EXTRA_TOKENS = 16  # of the shortest translations

_NOT_INSTALLED = "The tokenizer of '{model}' needs sentencepiece. Run `pip install sentencepiece`."


class Seq2SeqTranslator:
    """A translation model; sentences of like length go through it together.

    Args:
        model: hub id or folder.
        device: `auto`, `cpu` or `cuda`.
        beams: hypotheses that are followed.

    Raises:
        InputError: there is no such model, or it does not say which languages it knows.
        MissingDependencyError: its tokenizer needs sentencepiece.
    """

    characters_at_once = 20_000  # some minutes of a large model on a CPU

    def __init__(self, model: str, *, device: str = "auto", beams: int = 1) -> None:
        if beams < 1:
            raise InputError(f"beams is {beams}: one hypothesis at least is followed.")
        self._name, self._beams = model, beams
        self._device = find_device(device)
        self._tokenizer = _load_tokenizer(model)
        self._codes: LanguageCodes = find_codes(self._tokenizer, model)

    @property
    def name(self) -> str:
        """The model as it was asked for."""
        return self._name

    @property
    def languages(self) -> Languages:
        """What it translates into what."""
        return self._codes.languages

    @cached_property
    def _model(self) -> Any:
        return _load_model(self._name, self._device)

    @cached_property
    def _weights(self) -> str:
        """What tells the weights from others: their commit on the hub, or a digest of the files."""
        commit = getattr(self._model.config, "_commit_hash", None)
        return str(commit) if commit else _digest(Path(self._name))

    def version(self, source: str, target: str) -> str:
        """The weights, and how they are used."""
        return f"{self._weights} beams={self._beams}"

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Translate texts sentence by sentence."""
        pieces = [split_sentences(text) for text in texts]
        prefix = self._codes.targets[target] + " " if self._codes.way == "prefix" else ""
        if self._codes.way == "forced":
            self._tokenizer.src_lang = self._codes.sources[source]
        sentences = list(dict.fromkeys(sentence for some in pieces for sentence, _ in some))
        parts = {sentence: self._parts(sentence) for sentence in sentences}
        unique = list(dict.fromkeys(part for some in parts.values() for part in some))
        done = dict(zip(unique, self._generate([prefix + part for part in unique], target), strict=True))
        spaces = has_spaces(target)
        whole = {
            sentence: (" " if spaces else "").join(done[part] for part in some).strip()
            for sentence, some in parts.items()
        }
        return [
            join_sentences([whole[sentence] for sentence, _ in some], some, spaces=spaces) or None
            for some in pieces
        ]

    def _parts(self, sentence: str) -> list[str]:
        """A sentence in parts that the model takes, cut in its middle and there again."""
        longest = min(_LONGEST, self._most_tokens // _GROWTH)
        # No token is shorter than a byte.
        if len(sentence.encode()) <= longest or self._length(sentence) <= longest or len(sentence) == 1:
            return [sentence]
        middle = len(sentence) // 2
        cut = sentence.rfind(" ", 1, middle) + 1 or middle
        halves = sentence[:cut].strip(), sentence[cut:].strip()
        return [part for half in halves if half for part in self._parts(half)]

    def _length(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _most_tokens(self) -> int:
        config = self._model.config
        limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
        return min([int(limit) for limit in limits if limit] or [512])

    def _generate(self, sentences: Sequence[str], target: str) -> list[str]:
        """Run the model; the result of a sentence stands where the sentence stood."""
        import torch

        ids = [self._tokenizer(sentence)["input_ids"] for sentence in sentences]
        forced = {}
        if self._codes.way == "forced":
            forced["forced_bos_token_id"] = self._token_ids[target]
        languages = set(self._token_ids.values())  # not every tokenizer counts them as special
        translations = [""] * len(sentences)
        for rows in _batches([len(one) for one in ids], TOKENS_AT_ONCE[self._device]):
            batch = self._tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            limits = [min(_GROWTH * len(ids[row]) + _EXTRA_TOKENS, self._most_tokens - 1) for row in rows]
            with torch.inference_mode():
                output = self._model.generate(
                    input_ids=batch["input_ids"].to(self._device),
                    attention_mask=batch["attention_mask"].to(self._device),
                    num_beams=self._beams,
                    do_sample=False,
                    max_new_tokens=max(limits),
                    **forced,
                )
            for row, limit, tokens in zip(rows, limits, output.tolist(), strict=True):
                # A model that repeats itself without end is cut off where it would be alone: after the
                # token that starts all outputs, and its own limit.
                words = [token for token in tokens[: limit + 1] if token not in languages]
                translations[row] = self._tokenizer.decode(words, skip_special_tokens=True).strip()
        return translations

    @cached_property
    def _token_ids(self) -> dict[str, int]:
        """Our code -> the token that has the model put out the language; empty where it is told otherwise."""
        if self._codes.way != "forced":
            return {}
        own = getattr(self._tokenizer, "lang_code_to_token", {})  # M2M100: de -> __de__
        return {
            lang: int(self._tokenizer.convert_tokens_to_ids(own.get(code, code)))
            for lang, code in self._codes.targets.items()
        }


def _batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Rows in batches of at most `budget` tokens with padding, or of one row, longest first."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        # The first of a batch is its longest, to which the others are padded.
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > budget:
            batches.append([])
        batches[-1].append(row)
    return batches


def _load_tokenizer(model: str) -> Any:
    import warnings

    from transformers import AutoTokenizer

    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            tokenizer = AutoTokenizer.from_pretrained(model)
        for warning in told:  # such as Marian's, which would like another package for its punctuation
            logger.info("%s: %s", model, warning.message)
        return tokenizer
    except ImportError as error:
        raise MissingDependencyError(_NOT_INSTALLED.format(model=model)) from error
    except (OSError, ValueError, KeyError) as error:
        raise _cannot_load(model, error) from error


def _load_model(model: str, device: str) -> Any:
    import torch
    from transformers import AutoModelForSeq2SeqLM

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    try:
        return AutoModelForSeq2SeqLM.from_pretrained(model, dtype=dtype).to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise _cannot_load(model, error) from error


def _cannot_load(model: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()
    return InputError(
        f"The translation model '{model}' cannot be loaded: {reason[0] if reason else type(error).__name__} "
        "Give a folder or a hub id such as facebook/nllb-200-distilled-600M."
    )


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in (".json", ".safetensors", ".bin", ".spm", ".model"):
            with open(path, "rb") as file:
                digest.update(path.name.encode() + os.sep.encode())
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
