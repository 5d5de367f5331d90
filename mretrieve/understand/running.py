"""Run texts through an encoder and see what it does with each token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mretrieve.encode.checkpoint import Checkpoint, find_checkpoint
from mretrieve.encode.choose import find_device
from mretrieve.encode.encoder import batches_by_length
from mretrieve.encode.pooling import Pooling
from mretrieve.encode.tokenize import tokenizer_for
from mretrieve.errors import InputError
from mretrieve.models.bert import is_bert
from mretrieve.models.config_file import is_nomic
from mretrieve.models.nomic_files import load_nomic_moe
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.nomic_moe import NomicMoEModel, NomicMoEOutput
from mretrieve.models.upcycle import read_dense

BATCH_TOKENS = 4096
"""Tokens per batch, as many as the encoder takes on the CPU."""


@dataclass(frozen=True)
class Batch:
    """Texts that were run together, one after the other without padding.

    Attributes:
        rows: which of the texts, in the order of their tokens.
        lengths: tokens of each, special ones and prompt included.
        is_text: (n_tokens,) bool, false on special tokens and on the prompt.
        owner: (n_tokens,) int64, the place in `rows` of the text that a token belongs to.
        output: of the model.
    """

    rows: Sequence[int]
    lengths: Sequence[int]
    is_text: Tensor
    owner: Tensor
    output: NomicMoEOutput


class TextModel:
    """A NomicMoE, or a dense BERT-like encoder taken as one without experts, that reads documents.

    Args:
        name: what `find_checkpoint` takes: a folder, `e5-small`, or a hub id.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        InputError: there is no such model or device, or the model is of another architecture.
    """

    def __init__(self, name: Path | str, *, device: str = "cpu") -> None:
        self.checkpoint: Checkpoint = find_checkpoint(str(name))
        self.device = find_device(device)
        self.model = _load(self.checkpoint.folder, self.checkpoint.config)
        self.model.to(torch.device(self.device))  # type: ignore[arg-type]
        empty, prompt = self._encode(["", self.checkpoint.document_prefix.rstrip()])
        self._n_head = _common_start(empty, prompt) if len(prompt) > len(empty) else (len(empty) + 1) // 2
        self._n_tail = len(empty) - self._n_head
        self._prompt = prompt[self._n_head : len(prompt) - self._n_tail]

    def ids(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids of each text with the document prompt and special tokens, cut to the model's length."""
        return self._encode([self.checkpoint.document_prefix + text for text in texts])

    def run(self, ids: Sequence[NDArray[np.int32]], *, lang: str = "") -> Iterator[Batch]:
        """Run texts by their token ids, longest first.

        Args:
            ids: as `ids` gives them.
            lang: ISO code, for routers that go by it; empty where it is not known.
        """
        for rows in batches_by_length(ids, budget=BATCH_TOKENS):
            batch = [ids[row] for row in rows]
            lengths = [len(one) for one in batch]
            tokens = torch.from_numpy(np.concatenate(batch).astype(np.int64)).to(self.device)
            language = torch.full((len(rows),), self.model.sizes.language_id(lang), device=self.device)
            with torch.inference_mode():
                output = self.model.forward_packed(tokens, lengths, language_ids=language)
            is_text = np.concatenate([self._is_text(one) for one in batch])
            owner = np.repeat(np.arange(len(rows)), lengths)
            yield Batch(rows, lengths, torch.from_numpy(is_text), torch.from_numpy(owner), output)

    def embed(self, texts: Sequence[str], *, lang: str = "") -> NDArray[np.float32]:
        """Unit embeddings of texts as documents: (n, dim) float32."""
        self.check_pooling()
        ids = self.ids(texts)
        pooling = Pooling(self.checkpoint)
        parts: list[tuple[Sequence[int], NDArray[np.float32]]] = []
        for batch in self.run(ids, lang=lang):
            assert batch.output.last_hidden_state is not None
            states = batch.output.last_hidden_state.float().cpu().numpy()
            vectors = pooling(states, batch.lengths)
            parts.append((batch.rows, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        result: NDArray[np.float32] = np.concatenate([vectors for _, vectors in parts])[order]
        return result

    def check_pooling(self) -> None:
        """Raise InputError unless we know how the model makes one vector of its tokens'."""
        if self.checkpoint.pooling == "custom":
            raise InputError(
                f"{self.checkpoint.folder} makes its embeddings in a way that is not known: one pooling, "
                "mean, first or last token, over all tokens can be handled."
            )

    def _encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        tokenizer = tokenizer_for(self.checkpoint.folder, texts)
        return tokenizer.encode_batch(texts, max_length=self.checkpoint.max_length)

    def _is_text(self, ids: NDArray[np.int32]) -> NDArray[np.bool_]:
        """(length,) bool: neither a special token at an end nor part of the prompt."""
        first = self._n_head + _common_start(ids[self._n_head :], self._prompt)
        mask = np.zeros(len(ids), np.bool_)
        mask[first : len(ids) - self._n_tail] = True
        return mask


def _load(folder: Path, config: dict[str, object]) -> NomicMoEModel:
    if is_nomic(config):
        return load_nomic_moe(folder)
    if not is_bert(config):
        raise InputError(
            f"{folder} is a model of type {config.get('model_type')!r}: NomicMoE, NomicBert and BERT-like "
            "encoders are known here."
        )
    sizes, tensors = read_dense(folder)
    with torch.device("meta"):
        model = NomicMoEModel(NomicMoEConfig(**sizes.to_dict()))
    model.load_state_dict(tensors, strict=True, assign=True)
    model.train(False)
    return model


def _common_start(a: NDArray[np.int32], b: NDArray[np.int32]) -> int:
    """How many first ids are the same."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n
