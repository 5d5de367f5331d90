"""What routers do with a language's texts, token by token, summed up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mretrieve.understand.running import Batch, TextModel

Counts = NDArray[np.float64]
OnTexts = Callable[[int], None]


@dataclass
class RoutingStatistics:
    """One language's routing, over the tokens of its texts without special tokens and prompt.

    The router's probabilities p are the softmax of its logits over all experts. Layers are those that have
    experts, in order.

    Attributes:
        means: (n_texts, n_layers, n_experts) float32, each text's mean p; NaN where a text has no tokens.
        slots: (n_layers, n_experts), how often each expert was used.
        special_slots: the same for special tokens and the prompt.
        firsts: (n_layers, n_experts), how often each expert was the first choice.
        confidences: (n_layers, n_experts), the sum of p where the expert was the first choice.
        entropies: (n_layers,), the sum over tokens of the entropy of p, in bits.
        n_tokens: tokens counted.
        logits: per layer all tokens' logits, where they were asked for.
    """

    means: NDArray[np.float32]
    slots: Counts
    special_slots: Counts
    firsts: Counts
    confidences: Counts
    entropies: Counts
    n_tokens: int = 0
    logits: list[list[Tensor]] = field(default_factory=list)

    @classmethod
    def empty(cls, n_texts: int, n_layers: int, n_experts: int) -> "RoutingStatistics":
        """Nothing seen yet."""
        shape = (n_layers, n_experts)
        return cls(
            means=np.full((n_texts, *shape), np.nan, np.float32),
            slots=np.zeros(shape),
            special_slots=np.zeros(shape),
            firsts=np.zeros(shape),
            confidences=np.zeros(shape),
            entropies=np.zeros(n_layers),
            logits=[[] for _ in range(n_layers)],
        )

    def add(self, batch: Batch, *, keep_logits: bool) -> None:
        """Count a batch."""
        output, mask = batch.output, batch.is_text
        assert output.router_logits and output.router_experts and output.router_gates
        layers = zip(output.router_logits, output.router_experts, output.router_gates, strict=True)
        self.n_tokens += int(mask.sum())
        for layer, (logits, experts, gates) in enumerate(layers):
            logits, experts, used = logits.float().cpu(), experts.cpu(), gates.cpu() > 0
            self.slots[layer] += self._count(experts[mask][used[mask]])
            self.special_slots[layer] += self._count(experts[~mask][used[~mask]])
            self._add_probabilities(layer, batch, logits[mask].softmax(dim=-1), experts[mask, 0])
            if keep_logits:
                self.logits[layer].append(logits[mask])

    def _add_probabilities(self, layer: int, batch: Batch, probs: Tensor, first: Tensor) -> None:
        """Means, entropies and confidence by the text tokens' p (n, n_experts) and first choices (n,)."""
        owner = batch.owner[batch.is_text]
        counts = owner.bincount(minlength=len(batch.rows)).unsqueeze(1)
        sums = torch.zeros(len(batch.rows), probs.shape[1]).index_add_(0, owner, probs)
        self.means[list(batch.rows), layer] = (sums / counts).numpy()  # 0 / 0 is the NaN that we want
        self.firsts[layer] += self._count(first)
        confidence = probs.gather(1, first.unsqueeze(1)).squeeze(1).double()
        self.confidences[layer] += self._count(first, confidence)
        self.entropies[layer] += float(torch.special.entr(probs.double()).sum()) / np.log(2)

    def _count(self, experts: Tensor, weights: Tensor | None = None) -> Counts:
        n_experts = self.slots.shape[1]
        counted: Counts = torch.bincount(experts, weights, minlength=n_experts).double().numpy()
        return counted


def routing_statistics(
    model: TextModel,
    texts: Sequence[str],
    *,
    lang: str,
    keep_logits: bool = False,
    on_texts: OnTexts | None = None,
) -> RoutingStatistics:
    """Run a language's texts and sum up their routing.

    Args:
        model: one with experts.
        texts: in one language.
        lang: its ISO code.
        keep_logits: whether to keep each token's logits, 4 bytes per layer and expert.
        on_texts: called with the number of texts of each finished batch.
    """
    sizes = model.model.sizes
    found = RoutingStatistics.empty(len(texts), len(sizes.moe_layers), sizes.num_experts)
    for batch in model.run(model.ids(texts), lang=lang):
        found.add(batch, keep_logits=keep_logits)
        if on_texts is not None:
            on_texts(len(batch.rows))
    return found
