"""Models that only sentence-transformers knows how to run: other architectures, other modules."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mretrieve.errors import InputError


class LibraryModel:
    """A sentence-transformers model, fed with token ids."""

    def __init__(self, folder: Path, *, device: str, dtype: torch.dtype) -> None:
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(str(folder), device=device, model_kwargs={"torch_dtype": dtype})
        except (ValueError, OSError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{folder} cannot be loaded by sentence-transformers: {reason}") from error
        self._model.eval()
        self._pad = self._model.tokenizer.pad_token_id or 0

    def embed(self, batch: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Sentence embeddings as the model's own modules give them.

        Args:
            batch: token ids of each text, (length,) int32.

        Returns:
            (n, dim) float32.
        """
        width = max(len(ids) for ids in batch)
        ids = torch.full((len(batch), width), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, one in enumerate(batch):
            ids[row, : len(one)] = torch.from_numpy(one.astype(np.int64))
            mask[row, : len(one)] = 1
        features = {"input_ids": ids.to(self._model.device), "attention_mask": mask.to(self._model.device)}
        with torch.inference_mode():
            embeddings = self._model(features)["sentence_embedding"]
        result: NDArray[np.float32] = embeddings.float().cpu().numpy()
        return result
