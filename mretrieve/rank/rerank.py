"""Put a few documents in order for a query, more carefully than an index can.

A cross-encoder reads query and document together; it is the better judge, and some thousand times slower
than a search. Where there is none, the embedding model's own score of each pair is what remains.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.choose import find_device
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.models.weights import read_json, weight_files
from mretrieve.types import Document, Hit

CANDIDATES = 50
"""Hits that a search gives to a reranker, at least; a choice of how long to wait, not a measured optimum."""

_CLASSIFIER = "ForSequenceClassification"

Method = Literal["cross-encoder", "embedding"]

Scores = NDArray[np.float32]


class Reranker:
    """Scores documents for a query; safe to use from several threads.

    A model for classifying pairs is used as a cross-encoder, whose scores are probabilities; any other one
    as an embedding model, whose scores are cosines. Models are loaded on the first call that needs them.

    Args:
        model: folder or hub id, `@` a revision if wanted, of a cross-encoder such as
            `BAAI/bge-reranker-v2-m3`; or an embedding model, as for `Encoder`.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32` or `bf16`; for embedding models also `int8`. To cross-encoders `auto` is fp32.
        batch_size: pairs that a cross-encoder reads at once.

    Raises:
        InputError: the model, device or number type is unknown or not available, or the model gives more
            than one number for a pair.
    """

    def __init__(
        self, model: str, *, device: str = "auto", dtype: str = "auto", batch_size: int = 32
    ) -> None:
        checkpoint = find_checkpoint(model)
        self.name = model
        self.method: Method = "cross-encoder" if is_cross_encoder(checkpoint.folder) else "embedding"
        self._batch_size = batch_size
        self._lock = threading.Lock()  # a tokenizer's truncation is a setting that threads would share
        self._cross: Any = None
        self._encoder: Encoder | None = None
        if self.method == "embedding":
            self._encoder = Encoder(model, device=device, dtype=dtype)
            return
        weight_files(checkpoint.folder)  # there are some, and they are no pickles
        self._folder = checkpoint.folder
        self._dtype = _cross_encoder_dtype(dtype)
        self._device = find_device(device)
        _check_outputs(model, checkpoint.config)

    def score(self, query: str, documents: Sequence[str]) -> Scores:
        """Score documents for one query.

        Args:
            query: text in any language.
            documents: one text each.

        Returns:
            (n,) float32: probabilities from 0 to 1 of a cross-encoder, else cosines. Higher is better.

        Raises:
            InputError: the query is empty, or `documents` is a single string.
        """
        _check(query, documents)
        return self.score_pairs([(query, document) for document in documents])

    def score_pairs(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        """Score documents, each for a query of its own.

        Args:
            pairs: query and document.

        Returns:
            (n,) float32, as `score`.
        """
        if not pairs:
            return np.empty(0, np.float32)
        if self._encoder is not None:
            asked = list(dict.fromkeys(query for query, _ in pairs))
            queries = dict(zip(asked, self._encoder.encode_queries(asked), strict=True))
            vectors = self._encoder.encode_documents([document for _, document in pairs])
            scores = [queries[query] @ vector for (query, _), vector in zip(pairs, vectors, strict=True)]
            return np.array(scores, np.float32)
        import torch

        with self._lock:
            scores = self._model().predict(
                list(pairs),
                batch_size=self._batch_size,
                activation_fn=torch.nn.Sigmoid(),  # some give logits, which nobody can compare
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        return np.asarray(scores, np.float32).reshape(len(pairs))

    def rank(
        self, query: str, documents: Sequence[str], *, top_n: int | None = None
    ) -> list[tuple[int, float]]:
        """Put documents in order.

        Args:
            query: as in `score`.
            documents: as in `score`.
            top_n: how many to give; all by default.

        Returns:
            (place in `documents`, score) of each, best first, equal scores in the order given.
        """
        return best_first(self.score(query, documents), top_n=top_n)

    def load(self) -> None:
        """Load the model now."""
        self.score("a", ["a"])

    def count_tokens(self, query: str, documents: Sequence[str]) -> int:
        """Tokens that are read to score documents for a query, after any cut."""
        if not documents:
            return 0
        if self._encoder is not None:
            limit = self._encoder.checkpoint.max_length
            lengths = self._encoder.count_tokens([query], query=True) + self._encoder.count_tokens(documents)
            return sum(min(length, limit) for length in lengths)
        with self._lock:
            tokenizer = self._model().tokenizer
            pairs = tokenizer([query] * len(documents), list(documents), truncation="longest_first")
        return sum(map(len, pairs["input_ids"]))

    def count_document_tokens(self, documents: Sequence[str]) -> list[int]:
        """Tokens of each document alone, before any cut, without prompt and special tokens."""
        if self._encoder is not None:
            [empty] = self._encoder.count_tokens([""])
            return [length - empty for length in self._encoder.count_tokens(documents)]
        with self._lock:
            ids = self._model().tokenizer(list(documents), add_special_tokens=False, truncation=False)
        return [len(one) for one in ids["input_ids"]]

    def _model(self) -> Any:
        if self._cross is None:
            self._cross = load_cross_encoder(self._folder, device=self._device, dtype=self._dtype)
        return self._cross


def candidates(top_k: int, reranker: Reranker | None) -> int:
    """How many hits to search for where a reranker, if there is one, puts them in order."""
    return top_k if reranker is None or top_k < 1 else max(top_k, CANDIDATES)


def rerank_hits(reranker: Reranker, query: str, hits: Sequence[Hit], *, top_k: int) -> list[Hit]:
    """Put hits in the reranker's order.

    Args:
        reranker: what scores them.
        query: what they were found for.
        hits: best first.
        top_k: how many to give.

    Returns:
        The best hits with the reranker's `score` and their new `rank`; the legs' scores are kept.
    """
    texts = [Document("", hit.text, hit.title).contents for hit in hits]
    ranked = reranker.rank(query, texts, top_n=top_k)
    return [
        replace(hits[place], score=score, rank=rank) for rank, (place, score) in enumerate(ranked, start=1)
    ]


def best_first(scores: Scores, *, top_n: int | None = None) -> list[tuple[int, float]]:
    """(place, score) of the best, equal scores in the order given."""
    order = np.argsort(-scores, kind="stable")[:top_n]
    return [(int(place), float(scores[place])) for place in order]


def first_tokens(text: str, n_tokens: int, count: Callable[[str], int]) -> str:
    """The longest start of a text that has at most so many tokens.

    Args:
        text: any.
        n_tokens: at most, from 1.
        count: tokens of a text.
    """
    if count(text) <= n_tokens:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if count(text[:middle]) <= n_tokens:
            fits = middle
        else:
            too_long = middle
    return text[:fits]


def is_cross_encoder(folder: Path) -> bool:
    """Whether a model's settings say that it classifies texts or pairs of them."""
    architectures = read_json(folder / "config.json").get("architectures") or []
    kind = read_json(folder / "config_sentence_transformers.json").get("model_type")
    return kind == "CrossEncoder" or any(_CLASSIFIER in str(name) for name in architectures)


def load_cross_encoder(folder: Path, *, device: str, dtype: Literal["fp32", "bf16"] = "fp32") -> Any:
    """Load a cross-encoder with sentence-transformers.

    Args:
        folder: of sentence-transformers, or of transformers' models for sequence classification.
        device: `cpu` or `cuda`.
        dtype: number type of its layers.

    Returns:
        sentence-transformers' `CrossEncoder`.

    Raises:
        InputError: it cannot be loaded, or gives more than one number for a pair.
    """
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import CrossEncoder
    from transformers.utils import logging as transformers_logging

    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    try:
        model = CrossEncoder(
            str(folder),
            device=device,
            local_files_only=True,
            model_kwargs={"torch_dtype": kind, "use_safetensors": True},
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"The cross-encoder {folder} cannot be loaded: {reason} Fetch it again, or choose another."
        ) from error
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    model.eval()
    return model


def _check_outputs(model: str, config: dict[str, Any]) -> None:
    """A label is written for each number; without any there are two."""
    if not any(_CLASSIFIER in str(name) for name in config.get("architectures") or []):
        return  # a language model whose word for yes is the score
    n_outputs = len(config.get("id2label") or "ab")
    if n_outputs != 1:
        raise InputError(
            f"'{model}' gives {n_outputs} numbers per pair, but a cross-encoder that scores pairs gives one: "
            "choose a reranker, such as BAAI/bge-reranker-v2-m3."
        )


def _cross_encoder_dtype(dtype: str) -> Literal["fp32", "bf16"]:
    if dtype not in ("auto", "fp32", "bf16"):
        raise InputError(f"A cross-encoder has no number type '{dtype}'. Choose from: auto, fp32, bf16.")
    # As with all models that are not run by code of our own, nobody knows what bfloat16 does to it.
    return "bf16" if dtype == "bf16" else "fp32"


def _check(query: str, documents: Sequence[str]) -> None:
    if isinstance(documents, str):
        raise InputError("Give a list of documents; a single string would be read letter by letter.")
    if not query.strip():
        raise InputError("The query is empty: give some text to rank the documents for.")
