"""Data sets of a run: where stages write them, and how other stages find and read them again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mretrieve.errors import InputError
from mretrieve.files import remove
from mretrieve.train.context import StageContext

if TYPE_CHECKING:
    from datasets import Dataset

Rows = list[dict[str, Any]]


def load_set(address: str, context: StageContext, columns: Sequence[str] = ()) -> "Dataset":
    """Read a data set that a stage has written.

    Args:
        address: `STAGE/SET`.
        context: of the stage that reads.
        columns: what it needs.

    Raises:
        InputError: it is not there, is no data set, or lacks a column.
    """
    from datasets import load_from_disk

    path = context.input_path(address)
    if not is_set(path):
        raise InputError(f"{path} is no data set that a stage has written: give STAGE/SET.")
    data = load_from_disk(str(path))
    if missing := [name for name in columns if name not in data.column_names]:
        raise InputError(
            f"'{address}' lacks {', '.join(missing)}, which stage '{context.stage.name}' needs; it has "
            f"{', '.join(data.column_names)}."
        )
    return data


def is_set(path: Path) -> bool:
    """Whether a whole data set stands there."""
    return (path / "dataset_info.json").is_file()


def write_set(columns: Mapping[str, Sequence[Any]], folder: Path) -> None:
    """Write a data set; it gets its name when it is whole."""
    from datasets import Dataset
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    building = folder.with_name(f"{folder.name}.building")
    remove(building)
    Dataset.from_dict(dict(columns)).save_to_disk(str(building))
    remove(folder)
    building.rename(folder)


def write_rows(rows: Rows, folder: Path) -> None:
    """Write a data set of rows that have the same keys, one row at least."""
    write_set({name: [row[name] for row in rows] for name in rows[0]}, folder)


def set_names(addresses: Sequence[str], stage: str) -> dict[str, str]:
    """Name -> address of the sets that a stage reads, and writes again under the same names.

    Raises:
        InputError: two have the same name, or one names a stage only.
    """
    names: dict[str, str] = {}
    for address in addresses:
        name = address.rpartition("/")[2]
        if name == address or name in names:
            what = "two sets of that name" if name in names else "no set, only a stage"
            raise InputError(f"Stage '{stage}': data names '{address}', which is {what}. Give STAGE/SET.")
        names[name] = address
    return names


def negative_columns(number: int) -> list[str]:
    """`negative_1` and so on."""
    return [f"negative_{place}" for place in range(1, number + 1)]
