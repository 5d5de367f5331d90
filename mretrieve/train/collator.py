"""Turn examples into a batch: tokens of every column, and what the losses have to know beside them."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from mretrieve.train.objectives import Objective, Role
from mretrieve.train.student import encoder_of
from mretrieve.train.teacher import Teacher

Row = Mapping[str, Any]


class Collator(SentenceTransformerDataCollator):
    """Makes batches for `ObjectiveLoss`.

    Args:
        student: tokenizes the texts.
        objectives: by the name of their data set.
        prompts: what each role's texts begin with.
        teacher: embeds texts for the objectives that ask for it.
    """

    def __init__(
        self,
        student: SentenceTransformer,
        objectives: Mapping[str, Objective],
        prompts: Mapping[Role, str],
        teacher: Teacher | None,
    ) -> None:
        super().__init__(preprocess_fn=student.preprocess, valid_label_columns=[])
        self._objectives, self._starts, self._teacher = objectives, prompts, teacher
        encoder = encoder_of(student)
        hears = encoder is not None and encoder.sizes.router == "language"
        self._language_id = encoder.sizes.language_id if encoder is not None and hears else None

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """Rows of one data set to its batch; `example_ids` says which they were."""
        name = features[0]["dataset_name"]
        objective = self._objectives[name]
        columns = ["anchor", "positive", *(f"negative_{i}" for i in range(1, objective.negatives + 1))]
        roles = [_roles(row, objective, len(columns)) for row in features]
        batch: dict[str, Any] = {
            "dataset_name": name,
            "example_ids": [f"{row['source']} {row['anchor_id']} {row['positive_id']}" for row in features],
        }
        for number, column in enumerate(columns):
            texts = [
                self._starts[own[number]] + row[column] for row, own in zip(features, roles, strict=True)
            ]
            for key, value in self.preprocess_fn(texts, prompt=None, task=None).items():
                batch[f"{column}_{key}"] = value
            if self._language_id is not None:
                codes = [_languages(row, len(columns))[number] for row in features]
                batch[f"{column}_language_ids"] = torch.tensor([self._language_id(code) for code in codes])
        batch["label"] = self._labels(features, columns, roles, objective)
        return batch

    def _labels(
        self,
        rows: Sequence[Row],
        columns: Sequence[str],
        roles: Sequence[Sequence[Role]],
        objective: Objective,
    ) -> dict[str, Any]:
        languages = [_languages(row, len(columns)) for row in rows]
        labels: dict[str, Any] = {
            "groups": torch.tensor([_digest(row["group"]) for row in rows]),
            "texts": torch.tensor([[_digest(row[column]) for column in columns] for row in rows]),
            "languages": torch.tensor([[_digest(one) for one in own] for own in languages]),
        }
        if objective.scores is not None:
            labels["scores"] = torch.tensor(
                [row["scores"][: len(columns) - 1] for row in rows], dtype=torch.float32
            )
        if self._teacher is None or not objective.needs_teacher:
            return labels
        if objective.similarities is not None or (objective.ranking and objective.ranking.margin is not None):
            texts = [[row[column] for column in columns] for row in rows]
            labels["teacher"] = self._embed(texts, roles)
        if objective.needs_targets:
            # Where there is no English text, the place is filled with the positive and not looked at.
            texts = [[row["target"] or row["positive"]] * len(columns) for row in rows]
            labels["targets"] = self._embed(texts, roles)
            labels["has_target"] = torch.tensor([bool(row["target"]) for row in rows])
        return labels

    def _embed(self, texts: Sequence[Sequence[str]], roles: Sequence[Sequence[Role]]) -> torch.Tensor:
        """(n, columns, dim)."""
        assert self._teacher is not None
        flat = [text for own in texts for text in own]
        vectors = self._teacher.embed(flat, [role for own in roles for role in own])
        return torch.from_numpy(vectors).view(len(texts), len(texts[0]), -1)


def _languages(row: Row, n_columns: int) -> list[str]:
    """Languages of an example's columns; negatives are in the positive's where nothing else is said."""
    own = [row["language"], row["positive_language"], *row.get("negative_languages", ())]
    return [*own[:n_columns], *[row["positive_language"]] * (n_columns - len(own))]


def _roles(row: Row, objective: Objective, n_columns: int) -> list[Role]:
    """Roles of an example's columns: one of the objective's alternatives, always the same one."""
    key = f"{row['anchor_id']} {row['positive_id']}".encode()
    anchor, positive = objective.prompts[zlib.crc32(key) % len(objective.prompts)]
    return [anchor, *[positive] * (n_columns - 1)]


def _digest(text: str) -> int:
    """A number of 63 bits for a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
