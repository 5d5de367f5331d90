"""Triples on disk: one JSON object a line, gzipped if the name ends in `.gz`."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mretrieve.datasets.files import BadRecord
from mretrieve.datasets.records import read_jsonl
from mretrieve.errors import InputError
from mretrieve.mine.candidates import Candidate, Triple
from mretrieve.types import Document, Query

_DIGITS = 6  # of a score: what float32 holds


def to_record(triple: Triple) -> dict[str, object]:
    """A triple as it is written; texts are title and text as models see them."""
    query, positive = triple.query, triple.positive
    return {
        "query_id": query.query_id,
        "query": query.text,
        "query_lang": query.lang,
        "positive_id": positive.document.doc_id,
        "positive": positive.document.contents,
        "positive_lang": positive.document.lang,
        "positive_score": _rounded(positive.score),
        "positive_rank": positive.rank or None,
        "negatives": [
            {
                "doc_id": negative.document.doc_id,
                "text": negative.document.contents,
                "lang": negative.document.lang,
                "score": _rounded(negative.score),
                "rank": negative.rank,
                "source": negative.source,
            }
            for negative in triple.negatives
        ],
    }


def to_line(triple: Triple) -> bytes:
    """A triple as a line of the file."""
    return (json.dumps(to_record(triple), ensure_ascii=False) + "\n").encode()


def read_triples(path: str | Path) -> Iterator[Triple]:
    """Read triples; the title of a document is part of its text.

    Args:
        path: file written by `mine`.

    Yields:
        The triples in the order of the file.

    Raises:
        InputError: the file is missing or broken, or a line is no triple; the message tells the line.
    """
    for line, record in read_jsonl(Path(path)):
        if isinstance(record, BadRecord):
            raise InputError(f"{path}:{line}: {record}.")
        try:
            yield _triple(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}:{line}: no triple as `mretrieve mine` writes it ({type(error).__name__}: {error})."
            ) from None


def _triple(record: Any) -> Triple:
    positive = Candidate(
        Document(record["positive_id"], record["positive"], lang=record["positive_lang"]),
        rank=record["positive_rank"] or 0,
        score=_number(record["positive_score"]),
    )
    negatives = tuple(
        Candidate(
            Document(one["doc_id"], one["text"], lang=one["lang"]),
            source=one["source"],
            rank=one["rank"],
            score=_number(one["score"]),
        )
        for one in record["negatives"]
    )
    return Triple(Query(record["query_id"], record["query"], record["query_lang"]), positive, negatives)


def _rounded(score: float) -> float | None:
    return None if math.isnan(score) else round(score, _DIGITS)


def _number(score: float | None) -> float:
    return math.nan if score is None else float(score)
