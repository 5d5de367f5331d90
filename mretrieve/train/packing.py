"""A finished run's model as the package carries it, see `mretrieve.models.released`."""

from dataclasses import dataclass
from pathlib import Path

from mretrieve.errors import InputError
from mretrieve.train.recipe import Recipe, read_training_recipe
from mretrieve.train.upcycling import UpcycleStage, upcycling_arguments

_TEXTS = 256
"""On so many passages the packed model is compared with the trained one."""


@dataclass(frozen=True)
class PackReport:
    """What packing came to: size of all files, and cosines of embeddings to those of the trained model."""

    bytes: int
    cosine_mean: float
    cosine_least: float


def pack_run(run_folder: Path, folder: Path, *, version: str) -> PackReport:
    """Pack the model of a run's last stage.

    Args:
        run_folder: of a recipe that starts with a stage `upcycle` of the embedded model.
        folder: where the packed files go, beside what else is in it.
        version: of the model; another one is unpacked anew at the users'.

    Raises:
        InputError: the run is not finished, or its model was not upcycled from the embedded one.
    """
    import tempfile

    from mretrieve.datasets.source import open_source
    from mretrieve.encode.encoder import Encoder
    from mretrieve.models.released import pack, unpack

    recipe = read_training_recipe(run_folder / "recipe.yaml")
    trained = run_folder / recipe.stages[-1].name / "model"
    if not trained.is_dir():
        raise InputError(f"{run_folder} has no {trained.relative_to(run_folder)}: run the recipe to its end.")
    pack(trained, _upcycling(recipe), folder, version=version)
    texts = [one.contents for _, one in zip(range(_TEXTS), open_source("sample").documents(), strict=False)]
    with tempfile.TemporaryDirectory() as place:
        unpack(folder, Path(place) / "model")
        one, other = Encoder(str(trained)), Encoder(str(Path(place) / "model"))
        cosines = (one.encode_documents(texts) * other.encode_documents(texts)).sum(axis=1)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return PackReport(size, float(cosines.mean()), float(cosines.min()))


def _upcycling(recipe: Recipe) -> dict[str, object]:
    """What the run passed to `upcycle`."""
    for stage in recipe.stages:
        if isinstance(stage, UpcycleStage) and not stage.dense and stage.base == "e5-small":
            return upcycling_arguments(stage, seed=recipe.seed_of(stage))
    raise InputError(f"{recipe.path} upcycles no e5-small: only such models can be packed.")
