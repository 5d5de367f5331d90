"""Text by language that stands for what a smaller model is to be used on."""

from collections.abc import Sequence
from pathlib import Path

from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError
from mretrieve.languages import normalize_language
from mretrieve.understand.parallel import first_row, read_parallel

Sample = dict[str, list[str]]


def read_sample(sources: Sequence[Path | str], langs: Sequence[str], *, limit: int | None = None) -> Sample:
    """Read text of some languages.

    Args:
        sources: files of parallel text, or collections of documents that tell their language (`lang`), in
            any form that `open_source` reads.
        langs: codes of the languages wanted.
        limit: rows of each parallel file, and documents per language of each collection.

    Returns:
        Texts by ISO code, at least one for each.

    Raises:
        InputError: a source cannot be read, or a language has no text.
    """
    codes = [normalize_language(code) for code in langs]
    sample: Sample = {code: [] for code in codes}
    for source in sources:
        if _is_parallel(Path(source)):
            text = read_parallel(Path(source), langs=langs, limit=limit, always=())
            for label, texts in text.texts.items():
                sample[text.codes[label]] += texts
        else:
            _add_documents(sample, source, limit)
    for code, texts in sample.items():
        if not texts:
            named = ", ".join(map(str, sources))
            raise InputError(f"There is no text in '{code}' in {named}: give some that has it.")
    return sample


def _add_documents(sample: Sample, source: Path | str, limit: int | None) -> None:
    counts = dict.fromkeys(sample, 0)
    for document in open_source(source).documents():
        if document.lang in counts and (limit is None or counts[document.lang] < limit):
            counts[document.lang] += 1
            sample[document.lang].append(f"{document.title}\n{document.text}".strip())


def _is_parallel(path: Path) -> bool:
    """Whether a file holds rows without a field `text`; folders and other formats are collections."""
    if not path.is_file() or not {".jsonl", ".ndjson"} & set(path.suffixes):
        return False
    row = first_row(path)
    return not {"text", "contents"} & row.keys()
