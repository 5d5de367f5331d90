"""What the commands of evaluation read: runs, languages of queries and documents, dictionaries, bitext."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.runs import read_run
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError
from mretrieve.evaluate.bitext import Bitext, bitext_retrieval
from mretrieve.evaluate.dictionary import learn_dictionary, parse_dictionary
from mretrieve.files import storage_errors
from mretrieve.index.manifest import is_index
from mretrieve.index.stages import OnProgress
from mretrieve.languages import complete_languages, normalize_language
from mretrieve.rank.queries import with_languages
from mretrieve.types import Qrels, Query, Run

_ROWS_AT_ONCE = 4096
_TEXTS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class RunFile:
    """A run as it stands in a file, and how many of its lines rank a document again for its query."""

    run: Run
    duplicates: int


def read_run_file(path: Path) -> RunFile:
    """Read a run; a document that is ranked again for its query counts once, at its best score.

    Raises:
        InputError: as `read_run`.
    """
    again: list[tuple[str, str]] = []
    run = read_run(path, on_duplicate=lambda query_id, doc_id: again.append((query_id, doc_id)))
    return RunFile(run, len(again))


def read_query_languages(path: Path) -> dict[str, str]:
    """Languages of queries, detected where the file names none; `und` where that fails.

    Raises:
        InputError: as `read_queries`.
    """
    return {query.query_id: query.lang or "und" for query in with_languages(read_queries(path))}


def documents_of(run: Run, qrels: Qrels) -> set[str]:
    """Ids of all documents that a run ranks for judged queries, and of all judged ones."""
    ranked = {doc_id for query_id in qrels for doc_id in run.get(query_id, ())}
    return ranked | {doc_id for judged in qrels.values() for doc_id in judged}


def read_document_languages(address: str, wanted: Collection[str]) -> dict[str, str]:
    """Languages of documents, detected where the data name none; `und` where that fails.

    Args:
        address: an index, or a collection as `open_source` reads it.
        wanted: doc_ids.

    Returns:
        doc_id -> language, of those that are there.

    Raises:
        InputError: the address cannot be read.
    """
    if is_index(Path(address)):
        return dict(_languages_in_index(Path(address), wanted))
    languages: dict[str, str] = {}
    documents = (one for one in open_source(address).documents() if one.doc_id in wanted)
    while chunk := list(islice(documents, _TEXTS_AT_ONCE)):
        found = complete_languages([one.contents for one in chunk], [one.lang for one in chunk])
        languages |= {one.doc_id: lang or "und" for one, lang in zip(chunk, found, strict=True)}
    return languages


def _languages_in_index(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, str]]:
    from mretrieve.index.open import open_index

    index = open_index(path)
    for lang in index.manifest.languages:
        rows = index.rows_of(lang)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            for doc_id in index.documents.doc_ids(rows[start : start + _ROWS_AT_ONCE]):
                if doc_id in wanted:
                    yield doc_id, lang


def read_dictionaries(
    languages: Collection[str], *, into: str, dictionary: Path | None, parallel: Path | None
) -> dict[str, dict[str, str]]:
    """Dictionaries of words to mix queries with.

    Args:
        languages: of the queries.
        into: language of the translations, of which parallel text needs a column.
        dictionary: lines of `word<tab>translation`, for queries of any language.
        parallel: parallel text to learn a dictionary from, for each language that it has.

    Returns:
        Query language -> its dictionary, as `perturb` takes them.

    Raises:
        InputError: neither or both files are given, or one cannot be used.
    """
    if (dictionary is None) == (parallel is None):
        raise InputError("Mixing languages needs one file: give --dictionary or --parallel.")
    if dictionary is not None:
        lines: dict[int, str] = {}
        for number, line in read_lines(dictionary):
            if isinstance(line, BadRecord):
                raise InputError(f"{dictionary}:{number}: {line}.")
            lines[number] = line
        return {"": parse_dictionary(lines, str(dictionary))}
    assert parallel is not None
    from mretrieve.understand.parallel import read_parallel

    target = normalize_language(into)
    text = read_parallel(parallel, always=(target,))
    known = sorted(set(languages) & set(text.languages) - {target})
    if not known:
        raise InputError(
            f"{parallel} has none of the queries' languages beside {target} "
            f"({', '.join(sorted(languages)) or 'none'}): give other parallel text or --dictionary."
        )
    return {lang: learn_dictionary(text.texts[lang], text.texts[target]) for lang in known}


@dataclass(frozen=True, slots=True)
class BitextPair:
    """Two languages of parallel text and how well a model's vectors join them."""

    first: str
    second: str
    result: Bitext

    def to_dict(self) -> dict[str, object]:
        """All figures as a plain dictionary, for JSON."""
        return {"first": self.first, "second": self.second, **self.result.to_dict()}


def measure_bitext(
    model: str,
    texts: dict[str, Sequence[str]],
    *,
    pivot: str,
    device: str = "auto",
    dtype: str = "auto",
    on_progress: OnProgress | None = None,
) -> list[BitextPair]:
    """Measure how well a model's vectors find translations between one language and each other one.

    Args:
        model: as for `Encoder`; both sides get its query prompt, being the same kind of text.
        texts: language -> sentences; sentence i says the same in all of them.
        pivot: the language that is paired with each other one.
        device: as for `Encoder`.
        dtype: as for `Encoder`.
        on_progress: told of `sentences` and how many have been encoded.

    Returns:
        One result for each language but the pivot.

    Raises:
        InputError: the model cannot be used, there is no second language, or there are fewer than two rows.
    """
    from mretrieve.encode.encoder import Encoder

    if len(texts) < 2:
        raise InputError("Bitext needs two languages or more: name others, or give two files.")
    encoder = Encoder(model, device=device, dtype=dtype)
    total = sum(len(sentences) for sentences in texts.values())
    encoder.expect(sum(len(text.encode()) for side in texts.values() for text in side) // 3)
    n_done = 0

    def progressed(n_texts: int) -> None:
        nonlocal n_done
        n_done += n_texts
        if on_progress is not None:
            on_progress("sentences", n_done, total)

    middle = encoder.encode_queries(texts[pivot], on_progress=progressed)
    pairs = []
    for lang, sentences in texts.items():
        if lang != pivot:
            vectors = encoder.encode_queries(sentences, on_progress=progressed)
            result = bitext_retrieval(vectors, middle, texts=(sentences, texts[pivot]))
            pairs.append(BitextPair(lang, pivot, result))
    return pairs


def read_bitext(
    path: Path, other: Path | None, *, langs: Sequence[str] | None, pivot: str, limit: int | None
) -> dict[str, Sequence[str]]:
    """Read sentences and their translations.

    Args:
        path: parallel text with a field per language; or, with `other`, one sentence a line.
        other: the translations, line by line.
        langs: languages wanted of parallel text; all by default.
        pivot: language of parallel text that is needed in any case.
        limit: rows to read at most.

    Returns:
        Language -> sentences; of two files `path` and `other` by their names.

    Raises:
        InputError: a file cannot be read, or the two have not the same number of lines.
    """
    if other is None:
        from mretrieve.understand.parallel import read_parallel

        return dict(read_parallel(path, langs=langs, limit=limit, always=(normalize_language(pivot),)).texts)
    if langs is not None:
        raise InputError("--langs chooses among the languages of one file: leave it out with two files.")
    sides = {str(file): _sentences(file, limit) for file in (path, other)}
    if len(sides) < 2:
        raise InputError(f"{path} was given twice: give the file of its translations.")
    one, two = sides.values()
    if len(one) != len(two):
        raise InputError(
            f"{path} has {len(one):,} lines, but {other} has {len(two):,}: lines should go together."
        )
    return dict(sides)


def _sentences(path: Path, limit: int | None) -> list[str]:
    sentences: list[str] = []
    for number, line in islice(read_lines(path), limit):
        if isinstance(line, BadRecord):
            raise InputError(f"{path}:{number}: {line}.")
        if not line.strip():
            raise InputError(f"{path}:{number}: an empty line has no translation: remove it from both files.")
        sentences.append(line)
    return sentences


def write_queries(path: Path, queries: Sequence[Query], *, overwrite: bool = False) -> None:
    """Write queries as BEIR's JSON lines.

    Raises:
        InputError: the name does not end in .jsonl or .jsonl.gz, or there is such a file already.
    """
    from mretrieve.mine.translated import write_records

    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise InputError(f"{path} is to hold JSON lines: give a name that ends in .jsonl or .jsonl.gz.")
    if path.exists() and (path.is_dir() or not overwrite):
        raise InputError(f"{path} exists. Choose another name, or replace it with --overwrite.")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_records(path, (_record(query) for query in queries))


def _record(query: Query) -> dict[str, str]:
    record = {"_id": query.query_id, "text": query.text}
    return record | ({"lang": query.lang} if query.lang else {})
