"""Questions to try, shown where the demonstration index is open."""

from dataclasses import dataclass
from functools import cache

from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import SAMPLE
from mretrieve.rank.retriever import Retriever

_QUESTIONS = (
    ("en-q0330", "en-p061"),
    ("ar-q0398", "ar-p075"),
    ("zh-q0944", "zh-p183"),
    ("de-q0186", "de-p031"),
    ("el-q1038", "el-p205"),
    ("hi-q0846", "hi-p164"),
    ("ro-q0126", "ro-p017"),
    ("ru-q1138", "ru-p225"),
    ("es-q0541", "es-p101"),
    ("th-q0553", "th-p103"),
    ("tr-q0709", "tr-p136"),
    ("vi-q0890", "vi-p172"),
    ("en-q0812", "hi-p156"),
)
"""Questions of the package's sample and the passages that answer them; the last one's is in Hindi only."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question, its language, and the passage that answers it, with that one's language."""

    text: str
    lang: str
    doc_id: str
    answer_lang: str


@cache
def sample_examples() -> tuple[Example, ...]:
    """The questions, a dozen languages and one that asks across languages."""
    queries = {query.query_id: query for query in read_queries(SAMPLE)}
    return tuple(
        Example(queries[query_id].text, queries[query_id].lang, doc_id, doc_id.partition("-")[0])
        for query_id, doc_id in _QUESTIONS
    )


def examples_for(retriever: Retriever) -> tuple[Example, ...]:
    """The questions, if the index holds the sample; else none, since they would find nothing there."""
    documents = retriever.index.documents
    looked_at = documents.doc_ids(range(min(len(documents), 1000)))
    return sample_examples() if {one.doc_id for one in sample_examples()} <= set(looked_at) else ()
