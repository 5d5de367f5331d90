"""Number the documents that are not deleted, without keeping a number for each of them."""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mretrieve import files
from mretrieve.errors import InputError

Rows = NDArray[np.int64]


class LiveRows:
    """Two numberings of the same documents: `places` count the deleted ones too, `rows` do not.

    Attributes:
        deleted: (n_deleted,) int64, ascending places.
    """

    def __init__(self, deleted: Rows) -> None:
        self.deleted = deleted
        self._rows_before = deleted - np.arange(len(deleted))  # living documents before each deleted one

    def places_of(self, rows: Rows) -> Rows:
        """Rows -> places, of the same shape."""
        return rows + np.searchsorted(self._rows_before, rows, side="right")

    def rows_of(self, places: Rows) -> Rows:
        """Places of living documents -> rows, of the same shape."""
        return places - np.searchsorted(self.deleted, places)

    def is_live(self, places: Rows) -> NDArray[np.bool_]:
        """Whether each place holds a living document; false for places below 0."""
        if not len(self.deleted):
            return places >= 0
        near = np.minimum(np.searchsorted(self.deleted, places), len(self.deleted) - 1)
        living: NDArray[np.bool_] = (self.deleted[near] != places) & (places >= 0)
        return living

    def n_deleted(self, start: int, end: int) -> int:
        """Deleted ones among the places from `start` to `end`."""
        first, last = np.searchsorted(self.deleted, [start, end])
        return int(last - first)


def read_deleted(path: Path, *, n_places: int, n_deleted: int) -> Rows:
    """Read the places of deleted documents.

    Args:
        path: file of `write_deleted`; it need not exist where nothing is deleted.
        n_places: how many documents there are, with the deleted ones.
        n_deleted: how many are deleted.

    Raises:
        InputError: the file is damaged, or tells of another number of documents.
    """
    if not n_deleted:
        return np.empty(0, np.int64)
    try:
        deleted = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged or missing: take it from a copy of the index.") from error
    fits = deleted.dtype == np.int64 and deleted.shape == (n_deleted,)
    if not (fits and deleted[0] >= 0 and deleted[-1] < n_places and (np.diff(deleted) > 0).all()):
        raise InputError(
            f"{path} does not say which {n_deleted:,} of {n_places:,} documents are deleted: "
            "take it from a copy of the index."
        )
    return np.asarray(deleted, np.int64)


def write_deleted(path: Path, deleted: Rows) -> None:
    """Write the places of deleted documents, (n,) int64 ascending."""
    packed = io.BytesIO()
    np.save(packed, deleted, allow_pickle=False)
    with files.atomic_file(path) as file:
        file.write(packed.getbuffer())
