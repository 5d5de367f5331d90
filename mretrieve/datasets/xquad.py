"""XQuAD (Artetxe et al., 2020) and XQuAD-R (Roy et al., 2020) as retrieval sets.

Both are published as reading comprehension, so they are rewritten into BEIR's layout in the cache. XQuAD:
a paragraph is a document, relevant to its own questions. XQuAD-R: the sentences of all languages are one
pool, and a question's relevant ones are the eleven that hold its answer, whatever language it is asked in.

Ids are parallel: `th-p007` and `de-p007` are one paragraph, `th-q0123` one question, `th-p007-s02` the third
sentence of a paragraph. Titles are left out, for the English article name would give translations away.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mretrieve.cache import make_once
from mretrieve.datasets.catalogue import benchmarks
from mretrieve.datasets.files import BadRecord, readable
from mretrieve.datasets.layout import Part, downloads
from mretrieve.datasets.records import read_parquet
from mretrieve.errors import InputError

SPLIT = "test"


@dataclass(slots=True)
class Paragraph:
    """A paragraph with its questions, and for XQuAD-R its sentences.

    Attributes:
        text: all of it.
        questions: (question, offset of its answer).
        breaks: (start, end) of each sentence; empty where none are marked.
    """

    text: str
    questions: list[tuple[str, int]] = field(default_factory=list)
    breaks: list[tuple[int, int]] = field(default_factory=list)


def xquad(lang: str) -> Part:
    """The paragraphs and questions of a language."""
    return Part(
        benchmarks()["xquad"].repositories["corpus"],
        (f"xquad.{lang}/validation-00000-of-00001.parquet",),
        (f"xquad.{lang}.json", f"xquad/xquad.{lang}.json"),
    )


def xquad_r(lang: str) -> Part:
    """The paragraphs of a language with their sentences."""
    return Part(benchmarks()["xquad-r"].repositories["corpus"], (f"xquad-r/{lang}.json",))


def beir_of_xquad(lang: str, file: Path) -> Path:
    """A BEIR folder made of the published file of one language."""

    def fill(folder: Path) -> None:
        paragraphs = list(read_paragraphs(file))
        documents, qrels = [], []
        queries: list[dict[str, str]] = []
        for number, paragraph in enumerate(paragraphs):
            doc_id = f"{lang}-p{number:03d}"
            documents.append({"_id": doc_id, "title": "", "text": paragraph.text, "lang": lang})
            for question, _ in paragraph.questions:
                queries.append({"_id": f"{lang}-q{len(queries):04d}", "text": question, "lang": lang})
                qrels.append((queries[-1]["_id"], doc_id))
        write_beir(folder, documents, queries, qrels)

    return make_once(downloads() / "converted" / f"xquad-{lang}-{_digest([file])}", fill)


def beir_of_xquad_r(files: Mapping[str, Path]) -> Path:
    """A BEIR folder made of the published files of all languages; language -> file."""

    def fill(folder: Path) -> None:
        documents: list[dict[str, str]] = []
        queries: list[dict[str, str]] = []
        answers: dict[str, list[str]] = {}  # of each question, whatever its language
        for lang, file in files.items():
            numbers = iter(range(1 << 20))
            for number, paragraph in enumerate(read_paragraphs(file)):
                name = f"{lang}-p{number:03d}"
                documents += _sentences(name, lang, paragraph)
                for question, offset in paragraph.questions:
                    asked = f"q{next(numbers):04d}"
                    queries.append({"_id": f"{lang}-{asked}", "text": question, "lang": lang})
                    answers.setdefault(asked, []).append(f"{name}-s{_place(paragraph, offset, file):02d}")
        qrels = [(q["_id"], doc_id) for q in queries for doc_id in answers[q["_id"].partition("-")[2]]]
        write_beir(folder, documents, queries, qrels)

    return make_once(downloads() / "converted" / f"xquad-r-{_digest(files.values())}", fill)


def read_paragraphs(file: Path) -> Iterator[Paragraph]:
    """Read SQuAD's JSON, or the hub's Parquet with one question a row.

    Raises:
        InputError: the file is of another form.
    """
    try:
        yield from _of_rows(file) if file.suffix == ".parquet" else _of_json(file)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} has not the form of XQuAD ({error!r}): fetch it again.") from error


def write_beir(
    folder: Path,
    documents: Iterable[Mapping[str, str]],
    queries: Iterable[Mapping[str, str]],
    qrels: Iterable[tuple[str, str]],
    *,
    split: str = SPLIT,
) -> None:
    """Write a BEIR folder with one split, whose judgements are all of grade 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in (("corpus", documents), ("queries", queries)):
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    rows = [f"{query_id}\t{doc_id}\t1\n" for query_id, doc_id in qrels]
    (folder / "qrels").mkdir(exist_ok=True)
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows), "utf-8")


def _of_json(file: Path) -> Iterator[Paragraph]:
    with readable(file) as content:
        articles = json.loads(content.read())["data"]
    for article in articles:
        for entry in article["paragraphs"]:
            questions = [(one["question"], one["answers"][0]["answer_start"]) for one in entry["qas"]]
            breaks = [(start, end) for start, end in entry.get("sentence_breaks", ())]
            yield Paragraph(entry["context"], questions, breaks)


def _of_rows(file: Path) -> Iterator[Paragraph]:
    paragraph: Paragraph | None = None
    for _, row in read_parquet(file, columns=("context", "question", "answers")):
        if isinstance(row, BadRecord):
            raise InputError(f"{file}: {row}.")
        if paragraph is None or paragraph.text != row["context"]:
            if paragraph is not None:
                yield paragraph
            paragraph = Paragraph(row["context"])
        paragraph.questions.append((row["question"], _first_offset(row["answers"])))
    if paragraph is not None:
        yield paragraph


def _first_offset(answers: Any) -> int:
    return int(answers["answer_start"][0])


def _sentences(name: str, lang: str, paragraph: Paragraph) -> list[dict[str, str]]:
    return [
        {"_id": f"{name}-s{number:02d}", "title": "", "text": paragraph.text[start:end], "lang": lang}
        for number, (start, end) in enumerate(paragraph.breaks)
    ]


def _place(paragraph: Paragraph, offset: int, file: Path) -> int:
    """Number of the sentence in which an answer starts."""
    for number, (start, end) in enumerate(paragraph.breaks):
        if start <= offset < end:
            return number
    raise InputError(f"{file}: no sentence holds the answer at offset {offset}: fetch the file again.")


def _digest(files: Iterable[Path]) -> str:
    states = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(states).encode()).hexdigest()[:12]
