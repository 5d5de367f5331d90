"""Embeddings that a stage keeps in its folder while it works, so that a stopped one goes on."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.encoder import Encoder
from mretrieve.files import atomic_file
from mretrieve.train.context import StageContext
from mretrieve.train.objectives import Role

_SHARD_TEXTS = 1024


class KeptVectors:
    """Embeddings of texts, made when they are first asked for, in shards of a thousand texts.

    Args:
        model: folder or name.
        context: of the stage; shards lie in `vectors` in its folder.
    """

    def __init__(self, model: str, context: StageContext) -> None:
        self.folder = context.folder / "vectors"
        self._context = context
        self._encoder = Encoder(model, device=context.device)
        self._encoder.prefer_bulk()

    def embed(self, role: Role, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, dim) float32 of unit length up to half precision's rounding."""
        encode = self._encoder.encode_queries if role == "query" else self._encoder.encode_documents
        self.folder.mkdir(exist_ok=True)
        parts = [np.empty((0, self._encoder.dim), np.float32)]
        for start in range(0, len(texts), _SHARD_TEXTS):
            own = list(texts[start : start + _SHARD_TEXTS])
            path = self.folder / f"{hashlib.sha256(repr((role, own)).encode()).hexdigest()[:24]}.npy"
            if not path.is_file():
                with atomic_file(path) as file:
                    np.save(file, encode(own).astype(np.float16))
            parts.append(np.load(path).astype(np.float32))
            self._context.on_progress(f"{self._context.stage.name}: {role}", start + len(own), len(texts))
        return np.concatenate(parts)
