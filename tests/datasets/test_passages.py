import gzip
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mretrieve.datasets.files import BadRecord
from mretrieve.datasets.passages import CorpusSource, read_passages
from mretrieve.datasets.source import open_source
from mretrieve.errors import InputError
from mretrieve.types import Document

PASSAGES = [
    {"docid": "7#0", "title": "ماء", "text": "الماء مادةٌ شفافةٌ عديمة اللون والرائحة."},
    {"docid": "7#1", "title": "", "text": "กาฬโรคระบาดครั้งสุดท้าย"},
    {"docid": "9#0", "title": "Emoji", "text": "a 😀 b"},
]


def write(path, records, *, ascii_only=False):
    text = "".join(json.dumps(record, ensure_ascii=ascii_only) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def source(*paths, **more):
    return CorpusSource("miracl/sw", paths[0].parent, tuple(paths), **more)


@pytest.mark.parametrize("ascii_only", [False, True], ids=["UTF-8", "escaped"])
@pytest.mark.parametrize("name", ["docs-0.jsonl", "docs-0.jsonl.gz"])
def test_the_official_form(tmp_path, name, ascii_only):
    path = write(tmp_path / name, PASSAGES, ascii_only=ascii_only)
    assert list(source(path, lang="ar").documents()) == [
        Document(one["docid"], one["text"], one["title"], "ar", f"{name}:{line}")
        for line, one in enumerate(PASSAGES, start=1)
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"id": "x", "contents": "Title\n\nText"},
        {"docid": "x", "title": None, "text": "t"},
        {"docid": 5, "title": "", "text": "t"},
        {"docid": "x", "title": "T", "text": " "},
        {"docid": "x", "title": "", "text": "t", "lang": "de"},
        {"docid": "x", "title": "", "text": "t", "url": "u"},
    ],
)
def test_other_forms_are_read_as_everywhere_else(tmp_path, other):
    path = write(tmp_path / "docs-0.jsonl", [PASSAGES[0], other, PASSAGES[1]])
    found = list(source(path).documents())
    assert found == list(open_source(path).documents())
    assert len(found) == 3


def test_a_language_in_the_data_goes_before_that_of_the_collection(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"docid": "x", "title": "", "text": "t", "lang": "de"}, PASSAGES[0]])
    assert [one.lang for one in source(path, lang="ar").documents()] == ["de", "ar"]


def test_line_ends_and_empty_lines_count_as_in_any_file(tmp_path):
    lines = [json.dumps(one).encode() for one in PASSAGES]
    (tmp_path / "a.jsonl").write_bytes(b"\r\n".join(lines[:2]) + b"\n\n" + lines[2])
    assert [one.place for one in source(tmp_path / "a.jsonl").documents()] == [
        "a.jsonl:1",
        "a.jsonl:2",
        "a.jsonl:4",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"docid": "x", "title": "", "text": "t"', "a.jsonl:2: broken JSON"),
        (b'{"docid": "x", "title": "", "text": "\\ud800"}', "a.jsonl:2: .*half of a character"),
        (b'{"docid": "x", "title": "", "text": "\xff"}', "a.jsonl:2: not UTF-8"),
        (b'{"docid": "x", "title": "", "text": "t"} more', "a.jsonl:2: broken JSON"),
        (b'["x"]', "a.jsonl:2: a JSON object is needed"),
        (b'{"title": "", "text": "t"}', "a.jsonl:2: no id"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, line, message):
    good = [json.dumps(one).encode() for one in PASSAGES]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join([good[0], line, good[1]]) + b"\n")
    with pytest.raises(InputError, match=message):
        list(source(tmp_path / "a.jsonl").documents())
    skipping = source(tmp_path / "a.jsonl", on_error="skip")
    assert [one.doc_id for one in skipping.documents()] == ["7#0", "7#1"]
    assert skipping.skipped.total == 1


def test_a_repeated_id_is_told_with_both_places(tmp_path):
    first = write(tmp_path / "docs-0.jsonl", PASSAGES)
    second = write(tmp_path / "docs-1.jsonl", [{"docid": "8#0", "title": "", "text": "t"}, PASSAGES[1]])
    with pytest.raises(
        InputError, match=r"docs-1\.jsonl:2: the id '7#1' stands at .*docs-0\.jsonl:2 already"
    ):
        list(source(first, second).documents())


def test_ids_with_equal_hashes_are_no_repeated_ids(tmp_path, monkeypatch):
    monkeypatch.setattr("mretrieve.datasets.passages.hash", lambda text: 1, raising=False)
    assert len(list(source(write(tmp_path / "a.jsonl", PASSAGES)).documents())) == 3


def test_an_empty_corpus_is_told(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match="miracl/sw holds no documents"):
        list(source(tmp_path / "a.jsonl").documents())


def test_parquet_as_the_hub_gives_it(tmp_path):
    rows = {"_id": ["1", "2"], "title": ["T", ""], "text": ["moja", "mbili"]}
    pq.write_table(pa.table(rows), tmp_path / "dev-00000-of-00001.parquet")
    found = list(source(tmp_path / "dev-00000-of-00001.parquet", lang="sw").documents())
    assert [(one.doc_id, one.contents, one.lang) for one in found] == [
        ("1", "T moja", "sw"),
        ("2", "mbili", "sw"),
    ]


def test_faults_come_as_records(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"{}\n")
    assert isinstance(next(read_passages(tmp_path / "a.jsonl", "a.jsonl"))[1], BadRecord)


STREAM = """
import resource, sys
from pathlib import Path
from mretrieve.datasets.passages import CorpusSource
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[1])
n = sum(1 for _ in CorpusSource("x", path.parent, (path,), lang="sw").documents())
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Passages leave little more than 8 bytes each; `benchmarks/loader.py` reads 5 million."""
    text = "Akiolojia ni somo linalohusu mabaki ya tamaduni za watu wa nyakati zilizopita. " * 4
    with gzip.open(tmp_path / "docs-0.jsonl.gz", "wt", compresslevel=1) as file:
        for number in range(150_000):
            file.write(f'{{"docid": "{number}#0", "title": "Makala", "text": "{text}"}}\n')
    done = subprocess.run(
        [sys.executable, "-c", STREAM, str(tmp_path / "docs-0.jsonl.gz")],
        capture_output=True,
        text=True,
        check=True,
    )
    n_documents, kilobytes = map(int, done.stdout.split())
    assert n_documents == 150_000
    assert kilobytes < 20_000  # the text alone is 48 MB
