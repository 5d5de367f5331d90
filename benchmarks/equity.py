"""How many pieces a tokenizer needs for what English says in one, over NTREX-128's languages.

`python benchmarks/equity.py` cuts the same sentences of each language and prints pieces per sentence relative
to English (Petrov et al., 2023, arXiv:2305.15425), the characters that a piece holds, and the share of
sentences that are longer than the model reads. Languages that need many pieces cost more to encode and lose
more of a long passage. `results/equity.json` gets all languages.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from common import RESULTS, arguments, print_table, write_json

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.tokenize import Tokenizer, tokenizer_for
from mretrieve.understand.parallel import read_parallel

WORST, BEST = 12, 5
PIVOT = "en"


@dataclass(frozen=True)
class Equity:
    """One language's pieces.

    Attributes:
        ratio: pieces of all sentences over those of the same in English.
        median_ratio: median over sentences of the same ratio.
        pieces: pieces of a sentence, in the mean.
        characters: characters that a piece stands for, in the mean.
        too_long: share of the sentences that do not fit into the model's length.
    """

    ratio: float
    median_ratio: float
    pieces: float
    characters: float
    too_long: float


def main() -> None:
    """Print the languages that need most and least pieces, and write the figures of all."""
    parser = arguments(__doc__)
    parser.add_argument("--model", action="append", help="e5-small, a folder or a hub id; several to compare")
    parser.add_argument("--rows", type=int, help="sentences to read at most")
    options = parser.parse_args()
    text = read_parallel(options.data / "parallel" / "ntrex-128.jsonl.xz", limit=options.rows).texts
    figures: dict[str, dict[str, Equity]] = {}
    for name in options.model or ["e5-small"]:
        checkpoint = find_checkpoint(name)
        tokenizer = tokenizer_for(checkpoint.folder, [one for side in text.values() for one in side])
        figures[name] = measure(tokenizer, text, max_length=checkpoint.max_length)
        print_report(name, figures[name])
    plain = {name: {lang: asdict(one) for lang, one in found.items()} for name, found in figures.items()}
    write_json(options.json or RESULTS / "equity.json", plain)


def measure(tokenizer: Tokenizer, text: Mapping[str, Sequence[str]], *, max_length: int) -> dict[str, Equity]:
    """Pieces by language.

    Args:
        tokenizer: of the model.
        text: language -> sentences that say the same; English is one of them.
        max_length: pieces that the model reads, two of them special ones.
    """
    counts = {
        lang: np.array([len(pieces) for pieces in tokenizer.pieces(list(sentences))])
        for lang, sentences in text.items()
    }
    english = counts[PIVOT]
    return {
        lang: Equity(
            ratio=float(own.sum() / english.sum()),
            median_ratio=float(np.median(own / english)),
            pieces=float(own.mean()),
            characters=sum(map(len, text[lang])) / float(own.sum()),
            too_long=float((own + 2 > max_length).mean()),
        )
        for lang, own in counts.items()
    }


def print_report(name: str, found: Mapping[str, Equity]) -> None:
    """Print the extremes and the middle."""
    ordered = sorted((lang for lang in found if lang != PIVOT), key=lambda lang: -found[lang].ratio)
    ratios = [found[lang].ratio for lang in ordered]
    rows: list[list[object]] = [
        [lang, *asdict(found[lang]).values()] for lang in [*ordered[:WORST], *ordered[-BEST:], PIVOT]
    ]
    print(f"{name}: {len(ordered)} languages and varieties, median {np.median(ratios):.2f} of English,")
    print(f"{sum(ratio > 1.5 for ratio in ratios)} above 1.5, {sum(ratio > 2 for ratio in ratios)} above 2\n")
    print_table(["language", "pieces / English", "median", "pieces", "characters a piece", "too long"], rows)


if __name__ == "__main__":
    main()
