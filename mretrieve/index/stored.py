"""The vectors of an index's documents as they were encoded, where FAISS has kept them whole."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mretrieve.index.faiss import load_faiss
from mretrieve.index.joined import JoinedDocuments
from mretrieve.index.manifest import DENSE
from mretrieve.index.open import Index

Encode = Callable[[list[str]], NDArray[np.float32]]


class StoredVectors:
    """Gives vectors of a segmented index again, in the order of its rows, without its model.

    Only flat, graph and inverted-list indexes of whole vectors hold what was put into them. Documents of
    compressed segments have to be encoded again, lest each compaction made them worse.

    Attributes:
        n_lossy: living documents that have to be encoded again.
    """

    def __init__(self, index: Index) -> None:
        assert isinstance(index.documents, JoinedDocuments)
        self._documents = index.documents
        faiss = load_faiss()
        self._parts = [_whole_vectors(faiss, str(folder / DENSE)) for folder in index.folders]
        starts, live = self._documents.starts.tolist(), self._documents.live
        self.n_lossy = sum(
            end - start - live.n_deleted(start, end)
            for part, start, end in zip(self._parts, starts, starts[1:], strict=False)
            if part is None
        )

    def get(self, start: int, texts: list[str], encode: Encode) -> NDArray[np.float32]:
        """Vectors of consecutive rows.

        Args:
            start: the first row.
            texts: (n,) title and text of the documents from there on.
            encode: makes vectors of texts, for those that are not stored whole.

        Returns:
            (n, dim) float32 unit vectors.
        """
        places = self._documents.live.places_of(np.arange(start, start + len(texts)))
        parts = np.searchsorted(self._documents.starts, places, side="right") - 1
        found = []
        for number in np.unique(parts).tolist():
            inside = np.flatnonzero(parts == number)
            part = self._parts[number]
            if part is None:
                found.append(encode([texts[place] for place in inside.tolist()]))
            else:
                local = places[inside] - self._documents.starts[number]
                found.append(np.asarray(part.reconstruct_batch(local), np.float32))
        return np.concatenate(found)


def _whole_vectors(faiss: Any, path: str) -> Any:
    """The FAISS index of a file, if it can give back what was put into it; else None."""
    index = faiss.read_index(path, getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    storage = faiss.downcast_index(index.storage) if hasattr(index, "storage") else index
    if isinstance(storage, faiss.IndexIVFFlat):
        index.make_direct_map()
        return index
    return index if isinstance(storage, faiss.IndexFlat) else None
