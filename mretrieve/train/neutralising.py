"""The stage `neutralise`: what tells languages apart is taken out of a model's embeddings, without training.

The mean embeddings of languages span a small subspace that says little beside the language. A linear layer
after pooling projects it away, so that a passage in another language is as near as one in the question's.
Xie et al., 2022, low-rank subspaces for language-agnostic representations (LSAR); Yang et al., 2021
(arXiv:2109.04727).
"""

import random
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mretrieve.errors import InputError
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.recipe import Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FEW = 8  # sentences of a language below which its mean says more about them than about the language


class NeutraliseStage(Stage):
    """Parameters of the stage.

    `data` is a set of pairs in many languages, at best parallel text; of each language `sentences` are
    embedded as passages. `directions` of the space of the languages' means are taken out.
    """

    stage: Literal["neutralise"]
    model: str
    data: str
    sentences: Annotated[int, Field(ge=_FEW)] = 128
    directions: Annotated[int, Field(ge=1)] = 16

    def inputs(self) -> list[str]:
        """The model and the data."""
        return [self.model, self.data]


def run_neutralise(stage: NeutraliseStage, context: StageContext) -> StageResult:
    """Write `NAME/model`: the model with a linear layer after pooling.

    Raises:
        InputError: the model is none that can be given the layer, or there are too few languages.
    """
    import numpy as np

    from mretrieve.encode.encoder import Encoder
    from mretrieve.files import remove
    from mretrieve.models.modules import Head
    from mretrieve.models.nomic_files import load_nomic_moe, save_nomic_moe

    encoder = Encoder(context.model_name(stage.model), device=context.device)
    source = encoder.checkpoint.folder
    if encoder.checkpoint.head is not None:
        raise InputError(f"Stage '{stage.name}': {source} has a linear layer after pooling already.")
    texts = _texts(stage, context)
    encoder.prefer_bulk()
    means, done = [], 0
    for own in texts.values():
        means.append(encoder.encode_documents(own).mean(axis=0))
        done += len(own)
        context.on_progress(stage.name, done, sum(map(len, texts.values())))
    directions, explained = language_directions(np.stack(means), stage.directions)
    weight = np.eye(encoder.dim, dtype=np.float32) - directions.T @ directions
    remove(context.folder / "model")
    save_nomic_moe(load_nomic_moe(source), context.folder / "model", tokenizer=source, head=Head(weight))
    return StageResult(details={"languages": len(texts), "explained": round(explained, 4)})


def language_directions(
    means: "NDArray[np.float32]", n_directions: int
) -> "tuple[NDArray[np.float32], float]":
    """The directions in which languages differ most.

    Args:
        means: (n_languages, dim) mean embedding of each language.
        n_directions: how many are wanted.

    Returns:
        (n_directions, dim) float32, orthonormal; and the share of the means' variance in them.

    Raises:
        InputError: there are no more languages than directions.
    """
    import numpy as np

    if len(means) <= n_directions:
        raise InputError(
            f"{len(means)} languages differ in {len(means) - 1} directions at most, and {n_directions} are "
            "to be taken out: give text in more languages, or lower `directions`."
        )
    _, sizes, rows = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    explained = float((sizes[:n_directions] ** 2).sum() / (sizes**2).sum())
    return rows[:n_directions].astype(np.float32), explained


def _texts(stage: NeutraliseStage, context: StageContext) -> dict[str, list[str]]:
    """Language -> some of its sentences."""
    from mretrieve.train.sets import load_set

    table = load_set(stage.data, context, ["anchor", "positive", "language", "positive_language"])
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for text, language in (("anchor", "language"), ("positive", "positive_language")):
        for one, name in zip(table[text][:], table[language][:], strict=True):
            found[name][one] = None
    draw = random.Random(context.seed)
    enough = {name: list(own) for name, own in sorted(found.items()) if len(own) >= _FEW}
    return {name: draw.sample(own, min(stage.sentences, len(own))) for name, own in enough.items()}
