"""The vectors of an index's documents, read back from its FAISS file."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.errors import InputError
from mretrieve.index.faiss import load_faiss
from mretrieve.index.manifest import DENSE
from mretrieve.index.open import Index

_BLOCK_ROWS = 65_536


class DocumentVectors:
    """Unit vectors by row number; those of a compressed index are what it kept of them.

    Raises:
        InputError: the index has no dense part, or one that cannot give its vectors back.
    """

    def __init__(self, index: Index) -> None:
        if index.manifest.dense is None:
            raise InputError(
                f"{index.path} has no vectors (it was built with --no-dense), which tell false negatives "
                "from real ones: build it again without --no-dense."
            )
        if index.manifest.segments:
            raise InputError(
                f"{index.path} was added to or deleted from: run `mretrieve compact {index.path}` first."
            )
        faiss = load_faiss()
        self._index = _open(faiss, index.path / DENSE)
        self._rows_of = index.rows_of
        try:
            if not hasattr(self._index, "storage"):  # not a graph, which holds a whole index
                faiss.extract_index_ivf(self._index).make_direct_map()
        except RuntimeError:
            pass  # no inverted lists: rows are found without a map
        try:
            self.get(np.zeros(1, np.int64))
        except RuntimeError as error:
            raise InputError(
                f"{index.path} cannot give its vectors back, as FAISS built it "
                f"({index.manifest.dense.factory}): build it again with --faiss Flat or HNSW32."
            ) from error

    def get(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, dim) float32: the vectors of rows in any order."""
        return np.asarray(self._index.reconstruct_batch(np.ascontiguousarray(rows)), np.float32)

    def nearest(
        self, queries: NDArray[np.float32], lang: str, top_k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the nearest documents of one language, exactly.

        Args:
            queries: (n, dim) float32 unit vectors.
            lang: language as the index names it.
            top_k: documents per query.

        Returns:
            Rows (n, k) int64 and scores (n, k) float32, best first, with k = min(top_k, documents of `lang`);
            equal scores are in ascending order of rows.
        """
        rows_of_language = self._rows_of(lang)
        rows = np.empty((len(queries), 0), np.int64)
        scores = np.empty((len(queries), 0), np.float32)
        for start in range(0, len(rows_of_language), _BLOCK_ROWS):
            block = rows_of_language[start : start + _BLOCK_ROWS]
            rows = np.concatenate([rows, np.broadcast_to(block, (len(queries), len(block)))], axis=1)
            scores = np.concatenate([scores, queries @ self.get(block).T], axis=1)
            rows, scores = _best(rows, scores, top_k)
        order = np.lexsort((rows, -scores), axis=1)
        return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _best(
    rows: NDArray[np.int64], scores: NDArray[np.float32], top_k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if scores.shape[1] <= top_k:
        return rows, scores
    kept = np.argpartition(-scores, top_k - 1, axis=1)[:, :top_k]
    return np.take_along_axis(rows, kept, axis=1), np.take_along_axis(scores, kept, axis=1)


def _open(faiss: Any, path: Path) -> Any:
    try:
        return faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    except RuntimeError as error:
        raise InputError(
            f"{path} cannot be read by FAISS: build the index again with --overwrite."
        ) from error
