"""What the routes of a server share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mretrieve.serve.batching import Batcher
    from mretrieve.serve.indexes import IndexRegistry
    from mretrieve.serve.metrics import Metrics
    from mretrieve.serve.models import ModelRegistry
    from mretrieve.serve.settings import Settings

Kind = Literal["query", "document"]
"""Which of a model's prompts a text gets."""

Phase = Literal["loading", "ready", "stopping"]
"""What a server is doing."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings and what they cost.

    Attributes:
        vectors: (n_texts, dim) float32, unit length.
        tokens: what the model read of each text, with prompt and special tokens, after any cut.
        cut: how many texts were longer than the model reads.
    """

    vectors: NDArray[np.float32]
    tokens: list[int]
    cut: int = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(self.tokens)


@dataclass(slots=True)
class ServerState:
    """The parts of one server. Made by `mretrieve.serve.app.create_app`.

    Attributes:
        settings: what the server was told.
        models: the encoders by name; an index adds its own.
        batcher: embeds texts, those of all requests in common batches.
        metrics: figures for Prometheus; `metrics.registry` takes more of them.
        indexes: by name. Its `open` is called in a thread when the server starts, before `/ready` says yes,
            its `close` when the server ends.
        phase: what the server is doing.
    """

    settings: "Settings"
    models: "ModelRegistry"
    batcher: "Batcher"
    metrics: "Metrics"
    indexes: "IndexRegistry"
    phase: Phase = "loading"
