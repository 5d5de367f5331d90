"""Losses over embeddings, which one forward pass gives to all of them.

They are sentence-transformers' own where it has one, with what retrieval across languages needs added:
false negatives masked, the base model's similarities kept, English embeddings of a teacher met.
Similarities are float32 whatever the model computes in, for a temperature multiplies their rounding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.sentence_transformer.losses import (
    DistillKLDivLoss,
    EmbedDistillLoss,
    MarginMSELoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from torch import Tensor, nn

from mretrieve.errors import InputError
from mretrieve.train.columns import of_documents, unit
from mretrieve.train.multi_positive import MultiPositiveLoss
from mretrieve.train.objectives import Objective, Ranking, Scores, Similarities, TargetRanking

Labels = Mapping[str, Any]
"""What a batch knows beside its texts, from `Collator`; columns are the anchor, the positive, negatives.

`groups` (n,) and `texts` (n, columns): int64 digests; `languages` (n, columns) int64. As far as the
objective needs them: `teacher` (n, columns, dim) float32, unit length; `targets` the same and `has_target`
(n,) bool; `scores` (n, columns - 1) float32.
"""


def build_loss(
    model: SentenceTransformer,
    objective: Objective,
    *,
    mini_batch: int | None = None,
    matryoshka: Sequence[int] = (),
) -> nn.Module:
    """The loss of an objective.

    Args:
        model: the student.
        objective: its losses and their weights.
        mini_batch: texts of a forward pass, with cached gradients (Gao et al., 2021, arXiv:2101.06983); all
            at once without it.
        matryoshka: embedding lengths to train beside the whole one.

    Raises:
        InputError: `matryoshka` comes together with a memory, which has embeddings of one length.
    """
    remembering = [
        part for part in (objective.similarities, objective.target_ranking) if part and part.memory
    ]
    if matryoshka and remembering:
        raise InputError("`matryoshka` and a loss's `memory` do not go together: leave one out.")
    loss = ObjectiveLoss(model, objective, mini_batch=mini_batch)
    return MatryoshkaLoss(model, loss, list(matryoshka)) if matryoshka else loss


def loss_means(losses: Mapping[str, nn.Module]) -> dict[str, float]:
    """Mean of each part of each objective since the last call, as `objective_part`, before its weight."""
    means: dict[str, float] = {}
    for name, loss in losses.items():
        inner = loss.loss if isinstance(loss, MatryoshkaLoss) else loss
        if isinstance(inner, ObjectiveLoss):
            means |= {f"{name}_{part}": value for part, value in inner.means().items()}
    return means


class EmbeddingLoss(Protocol):
    """What an objective adds up."""

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Any) -> Tensor:
        """The loss from each column's embeddings, (n, dim), and `Labels`."""


class ObjectiveLoss(CachedLossMixin, nn.Module):
    """The weighted sum of an objective's losses.

    Args:
        model: the student.
        objective: losses and weights.
        mini_batch: see `build_loss`.
    """

    def __init__(
        self, model: SentenceTransformer, objective: Objective, *, mini_batch: int | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.uses_gradient_cache = mini_batch is not None
        self.mini_batch_size = mini_batch or 0
        self.weights: dict[str, float] = {}
        self.parts: dict[str, EmbeddingLoss] = {}
        makers: dict[str, Callable[[Any], EmbeddingLoss]] = {
            "ranking": partial(MaskedRankingLoss, model),
            "similarities": SimilarityLoss,
            "targets": lambda _: TargetLoss(model),
            "target_ranking": TargetRankingLoss,
            "scores": partial(ScoreLoss, model),
            "multi_positive": MultiPositiveLoss,
        }
        for name, make in makers.items():
            settings = getattr(objective, name)
            if settings is not None:
                self.parts[name] = make(settings)
                self.weights[name] = objective.weight * settings.weight
        self._totals: dict[str, Tensor] = {}
        self._count = 0

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Any) -> Tensor:
        """The loss of a batch; `labels` as in `Labels`."""
        if self.uses_gradient_cache:
            return self.forward_cached(sentence_features, labels)
        # One forward pass for all columns: without padding it does not matter that lengths differ.
        return self._total(embed_columns(self.model, sentence_features, separate_first=False), labels)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Any = None, *, with_backward: bool = False
    ) -> Tensor:
        """For cached gradients: the loss from each column's mini-batches of embeddings."""
        total = self._total([torch.cat(column) for column in reps], labels)
        if with_backward:
            torch.autograd.backward(total)
            total = total.detach()
        return total

    def means(self) -> dict[str, float]:
        """The mean of each part since the last call."""
        means = {name: float(total) / self._count for name, total in self._totals.items()}
        self._totals, self._count = {}, 0
        return means

    def _total(self, embeddings: Sequence[Tensor], labels: Labels) -> Tensor:
        with torch.autocast(embeddings[0].device.type, enabled=False):
            wide = [embedding.float() for embedding in embeddings]
            losses = {
                name: part.compute_loss_from_embeddings(wide, labels) for name, part in self.parts.items()
            }
        self._count += 1
        for name, loss in losses.items():
            self._totals[name] = self._totals.get(name, 0.0) + loss.detach()
        return torch.stack([self.weights[name] * loss for name, loss in losses.items()]).sum()


class MaskedRankingLoss(MultipleNegativesRankingLoss):
    """sentence-transformers' ranking loss, without the negatives that are right answers themselves."""

    def __init__(self, model: SentenceTransformer, settings: Ranking) -> None:
        super().__init__(
            model,
            scale=1 / settings.temperature,
            directions=tuple(settings.directions),
            partition_mode=settings.partition,
        )
        self.margin = settings.margin

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Any) -> Tensor:
        """Mean over examples: minus the log of the positive's share among positive and negatives."""
        queries, positives, documents = embeddings[0], embeddings[1], torch.cat(list(embeddings[1:]))
        scores = {}
        for direction in self.directions:
            first, second = _ENDS[direction]
            left = queries if first == "query" else positives
            right = queries if second == "query" else documents
            sims = self.similarity_fct(left, right) * self.scale
            masked = self._masked(direction, labels, len(embeddings))
            scores[direction] = sims.masked_fill(masked, -torch.inf)
        positive = scores["query_to_doc"].diagonal()
        if self.partition_mode == "joint":
            log_z = torch.cat(list(scores.values()), dim=1).logsumexp(dim=1)
        else:
            log_z = torch.stack([one.logsumexp(dim=1) for one in scores.values()]).mean(dim=0)
        return (log_z - positive).mean()

    def _masked(self, direction: str, labels: Labels, n_columns: int) -> Tensor:
        """(n, candidates) bool, true where a candidate must not be a negative; never the positive itself."""
        groups: Tensor = labels["groups"]
        texts: Tensor = labels["texts"]
        same_group = groups[:, None] == groups[None, :]  # (n, n)
        own = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
        if direction == "query_to_query":
            return same_group | (texts[:, :1] == texts[:, 0][None, :])
        if direction == "doc_to_query":
            return (same_group | (texts[:, :1] == texts[:, 0][None, :])) & ~own
        # Candidates are documents: the positives of all, then the first negatives of all, and so on.
        equal = texts[:, 1:2] == of_documents(texts)  # (n, n * (columns - 1))
        others = torch.zeros_like(same_group).repeat(1, n_columns - 2)
        masked = torch.cat([same_group, others], dim=1) | equal
        if direction == "doc_to_doc":
            return masked | own.repeat(1, n_columns - 1)
        if self.margin is not None:
            masked = masked | _near_for_teacher(labels, self.margin)
        keep = torch.cat([own, torch.zeros_like(own).repeat(1, n_columns - 2)], dim=1)
        return masked & ~keep


class Memory:
    """The newest texts of earlier training batches, as columns of what is known of each.

    Args:
        size: how many texts.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def __getitem__(self, column: str) -> Tensor:
        """One column, oldest first, (m, ...) with m at most `size`."""
        return self._columns[column]

    def behind(self, column: str, new: Tensor) -> Tensor:
        """(n + m, ...): what a batch has in a column, (n, ...), and behind it what is remembered."""
        return torch.cat([new, self[column]]) if len(self) else new

    def add(self, **columns: Tensor) -> None:
        """Add texts, (n, ...) in each column, and forget the oldest beyond the size; evaluation adds none."""
        if self.size and torch.is_grad_enabled():
            for name, new in columns.items():
                kept = self._columns.get(name, new[:0].detach())
                self._columns[name] = torch.cat([kept, new.detach()])[-self.size :]


_ENDS = {
    "query_to_doc": ("query", "doc"),
    "query_to_query": ("query", "query"),
    "doc_to_query": ("doc", "query"),
    "doc_to_doc": ("doc", "doc"),
}


def _near_for_teacher(labels: Labels, margin: float) -> Tensor:
    """(n, n * (columns - 1)) bool: documents in the positive's language that the teacher finds as near."""
    teacher, languages = labels["teacher"], labels["languages"]
    similarities: Tensor = teacher[:, 0] @ of_documents(teacher).T
    same_language: Tensor = languages[:, 1:2] == of_documents(languages)
    positive = similarities.diagonal()[:, None]
    return same_language & (similarities > positive - margin)


class SimilarityLoss(nn.Module):
    """KL from the teacher's distribution over the batch's documents, and earlier ones, to the student's."""

    def __init__(self, settings: Similarities) -> None:
        super().__init__()
        self.settings = settings
        self.memory = Memory(settings.memory)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Labels) -> Tensor:
        """Mean over the examples that have two candidates at least."""
        documents = {
            "vectors": unit(torch.cat(list(embeddings[1:]))),
            "teacher": of_documents(labels["teacher"]),
            "languages": of_documents(labels["languages"]),
        }
        known = {name: self.memory.behind(name, new) for name, new in documents.items()}
        self.memory.add(**documents)
        wanted: Tensor = labels["teacher"][:, 0] @ known["teacher"].T
        student = unit(embeddings[0]) @ known["vectors"].T
        candidates: Tensor = labels["languages"][:, 1:2] == known["languages"]
        if not self.settings.within_language:
            candidates = torch.ones_like(candidates)
        temperature = self.settings.temperature
        # A large number and not infinity: 0 * (inf - inf) would be no number in the sum.
        shares = (wanted / temperature).masked_fill(~candidates, -1e4).softmax(dim=1)
        logs = (student / temperature).masked_fill(~candidates, -1e4).log_softmax(dim=1)
        divergence = F.kl_div(logs, shares, reduction="none").sum(dim=1)
        counts = (candidates.sum(dim=1) > 1).float()
        return (divergence * counts).sum() / counts.sum().clamp(min=1)


def _zero(embeddings: Sequence[Tensor]) -> Tensor:
    """A loss of 0 that can be differentiated."""
    return torch.stack([embedding.sum() * 0 for embedding in embeddings]).sum()


class TargetLoss(nn.Module):
    """Cosine distance of every column to the teacher's embedding of the English text."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.loss = EmbedDistillLoss(model, distance_metric="cosine")

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Labels) -> Tensor:
        """Mean over columns and the examples that have a target; 0 where none has."""
        rows = labels["has_target"].nonzero().flatten()
        if not len(rows):
            return _zero(embeddings)
        dim = embeddings[0].shape[1]
        targets = labels["targets"][rows, :, :dim]
        loss: Tensor = self.loss.compute_loss_from_embeddings(
            [embedding[rows] for embedding in embeddings], list(targets.unbind(dim=1))
        )
        return loss


class TargetRankingLoss(nn.Module):
    """InfoNCE from every column to the teacher's embedding of its English text, before other examples'."""

    def __init__(self, settings: TargetRanking) -> None:
        super().__init__()
        self.temperature = settings.temperature
        self.memory = Memory(settings.memory)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Labels) -> Tensor:
        """Mean over columns and the examples that have a target; 0 where none has."""
        rows = labels["has_target"].nonzero().flatten()
        if not len(rows):
            return _zero(embeddings)
        targets, groups = labels["targets"][rows], labels["groups"][rows]
        same = groups[:, None] == self.memory.behind("groups", groups)
        same[:, : len(rows)].fill_diagonal_(False)
        losses = []
        for column, embedding in enumerate(embeddings):
            bank = self.memory.behind("targets", targets[:, column])
            logits = (unit(embedding[rows]) @ bank.T / self.temperature).masked_fill(same, -torch.inf)
            losses.append(F.cross_entropy(logits, torch.arange(len(rows), device=logits.device)))
        for column in range(len(embeddings)):
            self.memory.add(targets=targets[:, column], groups=groups)
        return torch.stack(losses).mean()


class ScoreLoss(nn.Module):
    """A cross-encoder's scores of each question's own candidates, by sentence-transformers' losses."""

    def __init__(self, model: SentenceTransformer, settings: Scores) -> None:
        super().__init__()
        similarity = partial(F.cosine_similarity, dim=-1)
        if settings.kind == "kl":
            self.loss: DistillKLDivLoss | MarginMSELoss = DistillKLDivLoss(
                model,
                similarity_fct=similarity,
                student_temperature=settings.temperature,
                teacher_temperature=settings.teacher_temperature,
            )
        else:
            self.loss = MarginMSELoss(model, similarity_fct=similarity)

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Labels) -> Tensor:
        """As the wrapped loss has it."""
        loss: Tensor = self.loss.compute_loss_from_embeddings(list(embeddings), labels["scores"])
        return loss
