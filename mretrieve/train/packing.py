"""The stage `pack`: a trained model as the package carries it, see `mretrieve.models.released`."""

from pathlib import Path
from typing import Literal

from mretrieve.errors import InputError
from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.recipe import Stage
from mretrieve.train.upcycling import UpcycleStage, upcycling_arguments

_TEXTS = 64
"""On so many passages the packed model is compared with the trained one."""


class PackStage(Stage):
    """Parameters of the stage.

    `base` names the stage `upcycle` that `model` was trained from, of the embedded model. `data` is a set of
    pairs; on some of its passages the packed model is compared with the trained one.
    """

    stage: Literal["pack"]
    model: str
    base: str
    data: str
    version: str = "1"

    def inputs(self) -> list[str]:
        """The model, where it came from, and the passages."""
        return [self.model, self.base, self.data]


def run_pack(stage: PackStage, context: StageContext) -> StageResult:
    """Write `NAME/packed`, what the package keeps, and `NAME/model`, what it becomes at the user's.

    Raises:
        InputError: `base` is no stage `upcycle` of the embedded model, or the model is not made of it.
    """
    from mretrieve.encode.encoder import Encoder
    from mretrieve.files import remove
    from mretrieve.models.released import pack, unpack

    base = next((one for one in context.recipe.stages if one.name == stage.base), None)
    if not isinstance(base, UpcycleStage) or base.dense or base.base != "e5-small":
        raise InputError(f"Stage '{stage.name}': {stage.base} should be a stage `upcycle` of e5-small.")
    trained = Path(context.model_name(stage.model))
    packed, model = context.folder / "packed", context.folder / "model"
    remove(packed)
    remove(model)
    arguments = upcycling_arguments(base, seed=context.recipe.seed_of(base))
    pack(trained, arguments, packed, version=stage.version)
    unpack(packed, model)
    texts = _passages(stage, context)
    one, other = (Encoder(str(place)).encode_documents(texts) for place in (trained, model))
    cosines = (one * other).sum(axis=1)
    size = sum(file.stat().st_size for file in packed.iterdir())
    scores = {"cosine_mean": round(float(cosines.mean()), 6), "cosine_least": round(float(cosines.min()), 6)}
    return StageResult(scores, {"bytes": size})


def _passages(stage: PackStage, context: StageContext) -> list[str]:
    from mretrieve.train.sets import load_set

    passages: list[str] = load_set(stage.data, context, ["positive"])["positive"][:]
    return passages[:: max(len(passages) // _TEXTS, 1)][:_TEXTS]
