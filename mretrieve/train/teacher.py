"""The frozen model whose embeddings a student is held to; every text is embedded once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.encoder import Encoder
from mretrieve.train.objectives import Role


class Teacher:
    """An encoder with a memory, of half precision: 0.8 kB for each text of 384 features.

    Args:
        model: folder or name.
        device: `cpu` or `cuda`.

    Raises:
        InputError: there is no such model.
    """

    def __init__(self, model: str, *, device: str) -> None:
        self._encoder = Encoder(model, device=device)
        self._encoder.prefer_bulk()
        self._known: dict[tuple[Role, str], NDArray[np.float16]] = {}

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._encoder.dim

    def embed(self, texts: Sequence[str], roles: Sequence[Role]) -> NDArray[np.float32]:
        """Embeddings of texts, each with the prompt of its role.

        Returns:
            (n, dim) float32, of unit length up to half precision's rounding.
        """
        keys = list(zip(roles, texts, strict=True))
        for role in ("query", "passage"):
            new = [key[1] for key in dict.fromkeys(keys) if key[0] == role and key not in self._known]
            if new:
                encode = self._encoder.encode_queries if role == "query" else self._encoder.encode_documents
                for text, vector in zip(new, encode(new), strict=True):
                    self._known[role, text] = vector.astype(np.float16)
        return np.stack([self._known[key] for key in keys]).astype(np.float32)
