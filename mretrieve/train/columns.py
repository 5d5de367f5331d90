"""Embeddings and labels of a batch, column by column: the anchors, the positives, the negatives."""

import torch.nn.functional as F
from torch import Tensor


def unit(vectors: Tensor) -> Tensor:
    """(n, dim), of length 1."""
    return F.normalize(vectors, dim=-1)


def of_documents(columns: Tensor) -> Tensor:
    """(n, columns, ...) to (n * (columns - 1), ...): the positives of all, their first negatives, ..."""
    return columns[:, 1:].transpose(0, 1).flatten(0, 1)
