"""Token states to one vector a text, as a checkpoint asks for it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mretrieve.encode.checkpoint import Checkpoint
from mretrieve.models.modules import read_head


class Pooling:
    """A checkpoint's pooling and, where it has one, the linear layer after it.

    Raises:
        InputError: the layer's weights are damaged.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._mode = checkpoint.pooling
        self._head = None if checkpoint.head is None else read_head(checkpoint.head)

    def __call__(self, hidden: NDArray[np.float32], lengths: Sequence[int]) -> NDArray[np.float32]:
        """One vector a text.

        Args:
            hidden: (n_tokens, hidden) float32, text after text.
            lengths: tokens of each text.

        Returns:
            (n_texts, dim) float32, not normalised.
        """
        pooled = pool(hidden, lengths, mode=self._mode)
        return pooled if self._head is None else self._head(pooled)


def pool(hidden: NDArray[np.float32], lengths: Sequence[int], *, mode: str) -> NDArray[np.float32]:
    """Token states to one vector a text, without a head.

    Args:
        hidden: (n_tokens, hidden) float32, text after text.
        lengths: tokens of each text.
        mode: `mean`, `cls` (the first token) or `lasttoken`.

    Returns:
        (n_texts, hidden) float32, not normalised.
    """
    sizes = np.asarray(lengths, np.int64)
    ends = np.cumsum(sizes)
    if mode == "cls":
        pooled = hidden[ends - sizes]
    elif mode == "lasttoken":
        pooled = hidden[ends - 1]
    else:
        pooled = np.add.reduceat(hidden, ends - sizes, axis=0) / sizes[:, None].astype(np.float32)
    return np.asarray(pooled, np.float32)
