"""Every right answer of a batch before every wrong one, and none of them preferred for its language."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.train.columns import of_documents, unit
from mretrieve.train.objectives import MultiPositive


class MultiPositiveLoss(nn.Module):
    """InfoNCE of each anchor and each right answer of its group; other right answers stand aside."""

    def __init__(self, settings: MultiPositive) -> None:
        super().__init__()
        self.settings = settings

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Mapping[str, Any]) -> Tensor:
        """Mean over the anchors that have a right answer; 0 where none has."""
        sims = unit(embeddings[0]) @ unit(torch.cat(list(embeddings[1:]))).T
        right, wrong = _right_and_wrong(labels["groups"], labels["texts"])
        counts = right.sum(dim=1)
        asked = counts > 0
        if not asked.any():
            return torch.stack([embedding.sum() * 0 for embedding in embeddings]).sum()
        sims, right, wrong, counts = sims[asked], right[asked], wrong[asked], counts[asked]
        logits = sims / self.settings.temperature
        # A large number and not infinity, whose gradient would be no number where nothing is wrong.
        against = logits.masked_fill(~wrong, -1e4).logsumexp(dim=1, keepdim=True)
        loss = (F.softplus(against - logits) * right).sum(dim=1) / counts
        if self.settings.uniform:
            loss = loss + self.settings.uniform * self._unevenness(sims, right, counts)
        return loss.mean()

    def _unevenness(self, sims: Tensor, right: Tensor, counts: Tensor) -> Tensor:
        """(n,) KL from equal shares of the right answers to the shares that their scores give them."""
        logits = sims / self.settings.uniform_temperature
        logs = logits.masked_fill(~right, -1e4).log_softmax(dim=1)
        return -(logs * right).sum(dim=1) / counts - counts.log()


def _right_and_wrong(groups: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    """(n, candidates) bool each: right answers, and what is neither one nor the anchor itself.

    Candidates are the positives of all, then their first negatives, and so on. A text that stands in
    several places is everywhere what it is in one; of a right answer only the first place counts.
    """
    documents = of_documents(texts)  # (n * (columns - 1),)
    same_group = groups[:, None] == groups[None, :]  # (n, n)
    equal = documents[: len(groups), None] == documents[None, :]  # (n, n * (columns - 1))
    known = (same_group.float() @ equal.float()) > 0
    itself = texts[:, :1] == documents[None, :]
    earlier = (documents[:, None] == documents[None, :]).tril(-1).any(dim=1)
    return known & ~itself & ~earlier, ~known & ~itself
