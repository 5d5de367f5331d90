"""Parameters of what a run learns: objectives, each a data set with its batches and its losses."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mretrieve.train.batches import Batching, Mix
from mretrieve.train.recipe import Part

Role = Literal["query", "passage"]
Weight = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(gt=0)]
Direction = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]


LOSSES = ("ranking", "similarities", "targets", "target_ranking", "multi_positive", "scores")
"""Keys of an objective that ask for a loss."""


class Ranking(Part):
    """A positive before all other texts of the batch (InfoNCE, sentence-transformers' ranking loss).

    Other right answers are no negatives: of the same group, of equal text and, with `margin`, those that
    the teacher finds as near to the question as the positive, less the margin. The teacher is asked only
    about texts in the positive's language, for across languages it errs systematically.
    """

    weight: Weight = 1.0
    temperature: Temperature = 0.02
    directions: list[Direction] = ["query_to_doc"]
    partition: Literal["joint", "per_direction"] = "joint"
    margin: float | None = None


class Similarities(Part):
    """The teacher's similarities of each question to the batch's texts, as a distribution (KL).

    With `within_language` to those in the positive's language only, so that the order inside a language is
    kept and the order across languages may change. `memory` documents of earlier batches are compared too,
    each with the embeddings that it had then: a batch alone shows only the easiest part of the order.
    """

    weight: Weight = 1.0
    temperature: Temperature = 0.02
    within_language: bool = True
    memory: Annotated[int, Field(ge=0)] = 0


class Targets(Part):
    """The teacher's embedding of the English text, for the texts in all languages.

    Reimers & Gurevych, 2020 (arXiv:2004.09813), by cosine in place of squared distance.
    """

    weight: Weight = 1.0


class TargetRanking(Part):
    """The teacher's embedding of the English text before those of other examples, for texts in all languages.

    `memory` targets of earlier examples are candidates too, so that a small batch asks as much as a whole
    collection (Wang et al., 2020, cross-batch memory, arXiv:1912.06798). The teacher is frozen, so its
    embeddings do not age; with the student's own in their place it would win by drifting away from them.
    """

    weight: Weight = 1.0
    temperature: Temperature = 0.02
    memory: Annotated[int, Field(ge=0)] = 0


class Scores(Part):
    """A cross-encoder's scores of a question's own candidates, by KL or MarginMSE.

    Yang et al., 2024 (arXiv:2405.00977). Temperatures divide the scores before the softmax of KL.
    """

    weight: Weight = 1.0
    kind: Literal["kl", "margin_mse"] = "kl"
    temperature: Temperature = 0.02
    teacher_temperature: Temperature = 1.0


class MultiPositive(Part):
    """Each right answer of a batch before all wrong ones (InfoNCE for each), whatever language it is in.

    Right are the positives of all examples of one group, so it needs batches of whole groups
    (`batching: {languages: parallel}`). No right answer competes with another: Khosla et al., 2020,
    arXiv:2004.11362, without the other positives in the denominator. `uniform` weighs how unevenly an
    anchor's scores fall on its right answers, as KL from equal shares: those that say the same in several
    languages should be found equally well (the aim of Roy et al., 2020, arXiv:2004.05484).
    """

    weight: Weight = 1.0
    temperature: Temperature = 0.02
    uniform: Annotated[float, Field(ge=0)] = 0.0
    uniform_temperature: Temperature = 0.02


class Objective(Part):
    """One data set, how its batches are made, and its losses.

    `data` is `STAGE/SET`. In each step of the optimizer there are `per_step` batches of `batch_size`
    examples, for each process. `prompts` are alternatives of [anchor's, positive's]; an example always gets
    the same one.
    """

    data: str
    batch_size: Annotated[int, Field(ge=2)] = 32
    per_step: Annotated[int, Field(ge=1)] = 1
    weight: Weight = 1.0
    batching: Batching = Batching()
    mix: Mix = Mix()
    prompts: Annotated[list[tuple[Role, Role]], Field(min_length=1)] = [("query", "passage")]
    negatives: Annotated[int, Field(ge=0)] = 0
    ranking: Ranking | None = None
    similarities: Similarities | None = None
    targets: Targets | None = None
    target_ranking: TargetRanking | None = None
    scores: Scores | None = None
    multi_positive: MultiPositive | None = None

    @model_validator(mode="after")
    def _has_a_loss(self) -> Self:
        if not any(getattr(self, name) for name in LOSSES):
            raise ValueError(f"an objective needs a loss: {', '.join(LOSSES[:-1])} or {LOSSES[-1]}")
        if self.scores and not self.negatives:
            raise ValueError("scores compare a positive with negatives: set negatives to 1 or more")
        return self

    @property
    def needs_teacher(self) -> bool:
        """Whether a loss asks for the teacher's embeddings."""
        margin = self.ranking is not None and self.ranking.margin is not None
        return margin or self.similarities is not None or self.needs_targets

    @property
    def needs_targets(self) -> bool:
        """Whether a loss asks for the teacher's embeddings of the English texts."""
        return self.targets is not None or self.target_ranking is not None
