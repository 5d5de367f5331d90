"""Reproduce what a recipe says: build its index, rank its collection's topics, and look at its scores."""

from pathlib import Path

from mretrieve.datasets.address import Address, is_address, parse_address
from mretrieve.datasets.source import SAMPLE
from mretrieve.errors import InputError
from mretrieve.recipe import Recipe, read_recipe
from mretrieve.reproduce import OnProgress, reproduce
from mretrieve.reproduction import Reproduction, Settings
from mretrieve.types import Mode


def reproduce_recipe(
    path: Path,
    out: Path,
    *,
    address: str | None = None,
    device: str = "auto",
    split: str = "",
    root: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Reproduction:
    """Build the index of a recipe, and measure what it states under `expect`.

    Args:
        path: of the recipe.
        out: folder for indexes, runs and results.
        address: of the collection, in place of the recipe's.
        device: `auto`, `cpu` or `cuda`.
        split: in place of the recipe's.
        root: folder of downloads to read instead of fetching.
        on_progress: told of each stage.

    Returns:
        The scores, each beside what the recipe expects and what is published.

    Raises:
        InputError: the recipe or the collection cannot be used.
        MissingDependencyError: FAISS or Lucene is needed and not installed.
    """
    recipe = read_recipe(path).with_choices()  # which finds that there is no part at all
    given = address or recipe.collection
    if given is None:
        raise InputError(f"{path} names no collection: put `collection: miracl/sw` into it, or name one.")
    split = split or (recipe.expect.split if recipe.expect else "")
    return reproduce(
        collection_of(given, split),
        out,
        settings=settings_of(recipe, path, device=device),
        split=split,
        root=root,
        on_progress=on_progress,
    )


def collection_of(text: str, split: str = "") -> Address:
    """The address that a recipe's `collection` stands for, which may be `sample` or a BEIR folder too.

    Args:
        text: what stands in the recipe.
        split: of a benchmark's language, where the address names none.

    Raises:
        InputError: there is no such collection or split.
    """
    if text == "sample":
        return Address("beir", place=str(SAMPLE))
    if not is_address(text) and Path(text).is_dir():
        return Address("beir", place=text)
    address = parse_address(text)
    if split and address.benchmark is not None and not address.split:
        return parse_address(f"{address}/{split}")
    return address


def settings_of(recipe: Recipe, path: Path, *, device: str = "auto") -> Settings:
    """How a recipe's collection is ranked.

    Raises:
        InputError: `expect` names a retriever that the recipe's index does not have.
    """
    has: list[Mode] = ["bm25"] if recipe.bm25 else []
    has += ["dense", "hybrid"][: 1 + len(has)] if recipe.encoder else []  # type: ignore[arg-type]
    wanted = recipe.expect.retriever if recipe.expect and recipe.expect.retriever else has[-1]
    if wanted not in has:
        raise InputError(
            f"{path} expects scores of {wanted}, but its index has {' and '.join(has)} only: correct "
            "expect.retriever, or let the index have that part."
        )
    encoder = recipe.encoder
    return Settings(
        wanted,
        model=encoder.model if encoder else "",
        device=device,
        dtype=encoder.dtype if encoder else "auto",
        recipe=recipe,
        name=path.stem,
    )
