"""Cut the package's multilingual sample from XQuAD: 300 passages in twelve languages.

XQuAD's 240 paragraphs are parallel, the same in every language. Here each language gets its own stretch of
them, so that most content stands in one language only and can be asked for from another. The stretches lie
on a ring and overlap by five paragraphs, so that some content stands in two languages.

    python benchmarks/make_sample.py [XQUAD] [SAMPLE]

writes the sample's data files again, byte for byte. XQUAD (default ../shared/data/xquad) holds one BEIR
folder per language.
"""

import gzip
import json
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
XQUAD = ROOT.parent / "shared" / "data" / "xquad"
SAMPLE = ROOT / "mretrieve" / "datasets" / "sample"

# Language number i has the paragraphs from 20 i on: German gets Martin Luther, Spanish the Amazon rainforest,
# Turkish Genghis Khan, Hindi civil disobedience, Chinese the Yuan dynasty, Greek the prime numbers.
RING = ("ro", "de", "en", "ar", "es", "th", "tr", "hi", "vi", "zh", "el", "ru")
N_PARAGRAPHS = 240
STRIDE = 20
PER_LANGUAGE = 25

# English asks for every paragraph with all its questions, these with the first only: the wheel stays small.
ALSO_ASKING = ("ar", "es", "zh")

FIELDS = ("_id", "title", "text", "lang")

Judgement = tuple[str, str]
"""query_id, doc_id."""


def holders() -> dict[int, list[str]]:
    """Paragraph number -> the one or two languages in which the sample holds it, sorted."""
    languages: dict[int, list[str]] = {number: [] for number in range(N_PARAGRAPHS)}
    for i, language in enumerate(RING):
        for offset in range(PER_LANGUAGE):
            languages[(STRIDE * i + offset) % N_PARAGRAPHS].append(language)
    return {number: sorted(held_by) for number, held_by in languages.items()}


def read_records(path: Path) -> list[dict[str, str]]:
    """The objects of a gzipped JSON lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_judgements(path: Path) -> list[Judgement]:
    """The (query_id, doc_id) pairs of a BEIR qrels file, all of them relevant in XQuAD."""
    rows = path.read_text(encoding="utf-8").splitlines()[1:]
    return [(row.split("\t")[0], row.split("\t")[1]) for row in rows]


def judge(xquad: Path, held: dict[int, list[str]]) -> tuple[list[Judgement], list[Judgement]]:
    """The sample's judgements: questions in the passage's own language, and in another one.

    Args:
        xquad: folder with one BEIR folder per language.
        held: what `holders` returns.

    Returns:
        (test, cross). A question is in `cross` only when its paragraph does not stand in its own language;
        it is then judged against each language that has the paragraph.
    """
    test: list[Judgement] = []
    cross: list[Judgement] = []
    for language in sorted(RING):
        asked: set[int] = set()
        for query_id, doc_id in read_judgements(xquad / language / "qrels" / "test.tsv"):
            number = int(doc_id.rpartition("-p")[2])
            if language in held[number]:
                test.append((query_id, doc_id))
            elif language == "en" or (language in ALSO_ASKING and number not in asked):
                asked.add(number)
                cross.extend((query_id, f"{other}-p{number:03d}") for other in held[number])
    return test, cross


def pick(xquad: Path, file_name: str, wanted: set[str]) -> list[dict[str, str]]:
    """The wanted records of all languages, without XQuAD's own fields and leading byte order marks."""
    kept = []
    for language in sorted(RING):
        for record in read_records(xquad / language / file_name):
            if record["_id"] in wanted:
                # `article` is an English title and would give a translation away.
                fields: dict[str, str] = {key: record[key] for key in FIELDS if key in record}
                kept.append(fields | {"text": fields["text"].removeprefix("\ufeff")})
    return kept


def write_records(path: Path, records: Iterable[dict[str, str]]) -> None:
    """Write gzipped JSON lines that are the same bytes whenever they are written."""
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(lines.encode("utf-8"))


def write_judgements(path: Path, judgements: Iterable[Judgement]) -> None:
    """Write a BEIR qrels file."""
    rows = "".join(f"{query_id}\t{doc_id}\t1\n" for query_id, doc_id in judgements)
    path.write_text("query-id\tcorpus-id\tscore\n" + rows, encoding="utf-8", newline="\n")


def make_sample(xquad: Path, sample: Path) -> None:
    """Write corpus, queries and both qrels into the folder `sample`."""
    held = holders()
    test, cross = judge(xquad, held)
    doc_ids = {f"{language}-p{number:03d}" for number, languages in held.items() for language in languages}
    query_ids = {query_id for query_id, _ in test + cross}
    (sample / "qrels").mkdir(parents=True, exist_ok=True)
    write_records(sample / "corpus.jsonl.gz", pick(xquad, "corpus.jsonl.gz", doc_ids))
    write_records(sample / "queries.jsonl.gz", pick(xquad, "queries.jsonl.gz", query_ids))
    write_judgements(sample / "qrels" / "test.tsv", test)
    write_judgements(sample / "qrels" / "cross.tsv", cross)


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    make_sample(*(given + [XQUAD, SAMPLE][len(given) :]))
