"""Read relevance judgements (qrels) from a file."""

from collections.abc import Sequence
from pathlib import Path

from mretrieve.datasets.files import BadRecord, read_lines
from mretrieve.datasets.source import resolve_address
from mretrieve.errors import InputError
from mretrieve.types import Qrels

_BEIR_HEADER = ("query-id", "corpus-id", "score")


def read_qrels(path: str | Path) -> Qrels:
    """Read relevance judgements.

    Args:
        path: TREC qrels (`query_id 0 doc_id grade`), a BEIR table (`query_id<tab>doc_id<tab>grade`, with or
            without its header), or a BEIR folder with a single split; gzipped or not. Or an address such as
            `miracl/sw/dev`.

    Returns:
        The grades in the order of the file.

    Raises:
        InputError: the file is missing, not readable or empty; a line has another form; a grade is no whole
            number; or a document has two different grades for one query. The message tells the line.
    """
    from mretrieve.datasets.collection import at_address  # which is built on this module

    if (collection := at_address(path)) is not None:
        return collection.judgements()
    file = _find(resolve_address(path))
    qrels: Qrels = {}
    for number, line in read_lines(file):
        if isinstance(line, BadRecord):
            raise InputError(f"{file}:{number}: {line}.")
        fields = _fields(line)
        if not fields or (number == 1 and _is_header(fields)):
            continue
        try:
            query_id, doc_id, grade = _judgement(fields)
        except BadRecord as fault:
            raise InputError(f"{file}:{number}: {fault}.") from None
        judged = qrels.setdefault(query_id, {})
        if judged.setdefault(doc_id, grade) != grade:
            raise InputError(
                f"{file}:{number}: document '{doc_id}' has grade {grade} for query '{query_id}', "
                f"but grade {judged[doc_id]} further up."
            )
    if not qrels:
        raise InputError(f"{file} holds no judgements.")
    return qrels


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    folder = path / "qrels" if (path / "qrels").is_dir() else path
    splits = sorted(file for pattern in ("*.tsv", "*.tsv.gz") for file in folder.glob(pattern))
    if len(splits) == 1:
        return splits[0]
    if not splits:
        raise InputError(f"The folder {path} holds no qrels/*.tsv: give the file of judgements.")
    names = ", ".join(file.name for file in splits)
    raise InputError(f"{folder} holds several splits ({names}): give one of these files.")


def _fields(line: str) -> list[str]:
    """Cut a line at its tabs as BEIR does (its ids may hold spaces), else at any white space as TREC does."""
    by_tab = line.split("\t")
    return by_tab if len(by_tab) == 3 else line.split()


def _is_header(fields: Sequence[str]) -> bool:
    return (
        tuple(name.strip().lower() for name in fields) == _BEIR_HEADER
        or fields[-1].strip().lower() == "score"
    )


def _judgement(fields: Sequence[str]) -> tuple[str, str, int]:
    if len(fields) == 4:
        query_id, _, doc_id, grade = fields
    elif len(fields) == 3:
        query_id, doc_id, grade = fields
    else:
        raise BadRecord(
            "wrong number of columns",
            f"{len(fields)} columns, but qrels have `query_id 0 doc_id grade` or `query_id doc_id grade`",
        )
    try:
        return query_id, doc_id, int(grade)
    except ValueError:
        raise BadRecord("wrong type", f"the grade '{grade.strip()}' is not a whole number") from None
