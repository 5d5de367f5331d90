"""The sentences of the parallel text, each in each language a document: 460,000 in more than 205 languages.

Rows come in an order that looks like chance but is always the same, each with all its languages, so that the
first n sentences are the same whatever number of them is asked for, and what was encoded for a small run
serves a larger one. `python benchmarks/sentences.py` encodes them all, some 50 minutes of two quiet cores for
e5-small, and may be stopped and started again at any time; `--sentences N` takes the first N.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import arguments, need
from numpy.typing import NDArray
from vectors import VectorStore, vectors_folder

from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.progress import progress
from mretrieve.understand.parallel import read_parallel

_SEED = 13


@dataclass(frozen=True, slots=True)
class Sentences:
    """Documents made of parallel text.

    Attributes:
        ids: `ROW.LANGUAGE`.
        texts: the sentences.
        langs: ISO codes.
        rows: (n,) int64; equal numbers say the same.
    """

    ids: list[str]
    texts: list[str]
    langs: list[str]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def read_sentences(data: Path, limit: int | None = None) -> Sentences:
    """The first sentences of all files in `parallel/` of a data folder.

    Raises:
        InputError: there are none.
    """
    files = [read_parallel(path) for path in sorted(need(data / "parallel").glob("*.jsonl*"))]
    places = [(file, row) for file in files for row in range(file.n_rows)]
    found = Sentences([], [], [], np.empty(0, np.int64))
    rows: list[int] = []
    for number in np.random.default_rng(_SEED).permutation(len(places)).tolist():
        file, row = places[number]
        name = file.path.name.partition(".")[0]
        for label, texts in file.texts.items():
            found.ids.append(f"{name}-{row:04d}.{label}")
            found.texts.append(texts[row])
            found.langs.append(file.codes[label])
            rows.append(number)
        if limit is not None and len(rows) >= limit:
            break
    if not rows:
        raise InputError(f"{data / 'parallel'} holds no parallel text.")
    end = len(rows) if limit is None else limit
    return Sentences(found.ids[:end], found.texts[:end], found.langs[:end], np.array(rows[:end], np.int64))


def sentence_store(model: str = "e5-small") -> VectorStore:
    """Where the vectors of sentences are kept, apart from those of other benchmarks, since they are many."""
    encoder = Encoder(model)
    return VectorStore(encoder, folder=vectors_folder(encoder, "sentences"))


def encode_sentences(sentences: Sentences, store: VectorStore) -> NDArray[np.float32]:
    """(n, dim) float32 unit vectors of sentences as documents; what is known is not encoded again."""
    with progress(resumable=True) as on_progress:
        store.on_progress = on_progress
        return store.documents(sentences.texts)


def main() -> None:
    """Encode, and say how far it came."""
    parser = arguments(__doc__)
    parser.add_argument("--sentences", type=int, help="the first N; all by default")
    parser.add_argument("--model", default="e5-small")
    chosen = parser.parse_args()
    sentences = read_sentences(chosen.data, chosen.sentences)
    store = sentence_store(chosen.model)
    encode_sentences(sentences, store)
    n_langs = len(set(sentences.langs))
    print(f"{len(sentences):,} sentences in {n_langs} languages: {store.folder}")


if __name__ == "__main__":
    main()
