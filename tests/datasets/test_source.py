import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mretrieve.datasets.qrels import read_qrels
from mretrieve.datasets.queries import read_queries
from mretrieve.datasets.source import KNOWN_FORMATS, SAMPLE, open_source
from mretrieve.errors import InputError
from mretrieve.types import Document

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def ids(source):
    return [document.doc_id for document in source.documents()]


ONE, TWO = (
    {"_id": "1", "text": "moja", "lang": "swh"},
    {"_id": "2", "title": "T", "text": "mbili", "lang": "swh"},
)
DOCUMENTS = [("1", "", "moja", "sw"), ("2", "T", "mbili", "sw")]


@pytest.mark.parametrize(
    ("name", "content", "places"),
    [
        ("a.jsonl", jsonl(ONE, TWO), ("a.jsonl:1", "a.jsonl:2")),
        ("a.ndjson", jsonl(ONE, TWO), ("a.ndjson:1", "a.ndjson:2")),
        ("a.jsonl.gz", gzip.compress(jsonl(ONE, TWO).encode()), ("a.jsonl.gz:1", "a.jsonl.gz:2")),
        ("a.TSV", "docid\ttitle\ttext\tlang\n1\t\tmoja\tsw\n2\tT\tmbili\tsw\n", ("a.TSV:2", "a.TSV:3")),
        ("a.csv", '\ufeffid,title,contents,language\n1,,moja,sw\n2,"T",mbili,sw\n', ("a.csv:2", "a.csv:3")),
        (
            "a.csv.gz",
            gzip.compress(b"id,title,text,lang\n1,,moja,sw\n2,T,mbili,sw\n"),
            ("a.csv.gz:2", "a.csv.gz:3"),
        ),
    ],
)
def test_files_of_records(tmp_path, name, content, places):
    found = list(open_source(write(tmp_path / name, content)).documents())
    assert [(d.doc_id, d.title, d.text, d.lang) for d in found] == DOCUMENTS
    assert tuple(d.place for d in found) == places


def test_an_address_and_an_open_source(tmp_path):
    folder = write(tmp_path / "set" / "corpus.jsonl", jsonl(ONE, TWO)).parent
    write(folder / "queries.jsonl", jsonl({"_id": "q", "text": "?"}, {"_id": "other", "text": "!"}))
    write(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\nq\t1\t1\n")
    source = open_source(f"beir:{folder}")
    assert ids(source) == ["1", "2"]
    assert open_source(source) is source
    assert [query.query_id for query in read_queries(f"beir:{folder}")] == ["q"]
    assert read_qrels(f"beir:{folder}") == {"q": {"1": 1}}
    with pytest.raises(InputError, match="miracl/sw is not on this machine.*mretrieve download miracl/sw"):
        open_source("miracl/sw")


def test_parquet(tmp_path):
    table = pa.table({"docid": [1, 2], "title": [None, "T"], "text": ["moja", "mbili"], "lang": ["sw", "sw"]})
    pq.write_table(table, tmp_path / "a.parquet")
    found = list(open_source(tmp_path / "a.parquet").documents())
    assert [(d.doc_id, d.title, d.text, d.lang) for d in found] == DOCUMENTS
    assert found[1].place == "a.parquet:2"


def test_tsv_without_header_as_ms_marco_has_it(tmp_path):
    found = list(open_source(write(tmp_path / "collection.tsv", '0\tThe "first".\n1\tSecond.\n')).documents())
    assert found[0] == Document("0", 'The "first".', place="collection.tsv:1")


@pytest.mark.parametrize("packed", [False, True])
def test_a_beir_folder_is_read_by_its_corpus_alone(tmp_path, packed):
    content = jsonl(ONE, TWO).encode()
    write(
        tmp_path / ("corpus.jsonl.gz" if packed else "corpus.jsonl"),
        gzip.compress(content) if packed else content,
    )
    write(tmp_path / "queries.jsonl", jsonl({"_id": "q", "text": "?"}))
    write(tmp_path / "README.md", "# About\nText.")
    assert ids(open_source(tmp_path)) == ["1", "2"]


def test_a_folder_of_texts(tmp_path):
    write(tmp_path / "b.md", "# Title\nText.")
    write(tmp_path / "a" / "x.txt", "Some text. " * 150)
    write(tmp_path / "table.csv", "not,read")
    found = list(open_source(str(tmp_path)).documents())
    assert [d.doc_id for d in found] == ["a/x.txt#1", "a/x.txt#2", "b.md#1"]
    assert found[2] == Document("b.md#1", "Text.", title="Title", place="b.md:2")


def test_a_single_text_file(tmp_path):
    assert ids(open_source(write(tmp_path / "a.txt", "Text."))) == ["a.txt#1"]


def test_a_folder_of_numbered_files_is_one_collection_in_their_order(tmp_path):
    for number in (10, 2, 1):
        write(
            tmp_path / f"docs-{number}.jsonl.gz",
            gzip.compress(jsonl({"docid": number, "text": "t"}).encode()),
        )
    write(tmp_path / "README.md", "About.")
    assert ids(open_source(tmp_path)) == ["1", "2", "10"]


def test_the_sample_is_part_of_the_package():
    source = open_source("sample")
    assert source.root == SAMPLE
    found = list(source.documents())
    assert len({document.lang for document in found}) == 12
    assert source.skipped.total == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{}", rf"a\.json has no known format\. Give {KNOWN_FORMATS[:13]}"),
        ("a.pdf", "%PDF", "has no known format"),
        ("a.txt.gz", "text", "has no known format"),
        ("a.jsonl", "", "is empty: there are no documents in it"),
        ("a.jsonl", "\n \n", "holds no documents"),
        ("a.tsv", "id\ttext\n", "holds no documents"),
        ("a.csv", "1,2\n", r"a\.csv:1: the first line has to name the columns"),
    ],
)
def test_files_that_are_no_source(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        list(open_source(path, on_error="skip").documents())


def test_folders_that_are_no_source(tmp_path):
    with pytest.raises(
        InputError, match=r"There is no file or folder .*nowhere\. Give a BEIR folder .* or `sample`"
    ):
        open_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"There is no file or folder .*a/b\."):
        open_source(write(tmp_path / "a", "") / "b")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty" / "x.pdf", "%PDF")
    with pytest.raises(InputError, match=r"The folder .*empty holds nothing that can be read"):
        open_source(tmp_path / "empty")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(InputError, match=r"pipe\.jsonl is neither a file nor a folder"):
        open_source(tmp_path / "pipe.jsonl")
    with pytest.raises(ValueError, match="on_error must be"):
        open_source("sample", on_error="ignore")


def test_a_file_that_may_not_be_read_is_told_at_once(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", jsonl(ONE))
    monkeypatch.setattr(os, "access", lambda *args: False)  # tests may run as root, who may read anything
    with pytest.raises(InputError, match=r"a\.jsonl may not be read by this user: change its permissions"):
        open_source(path)
    with pytest.raises(InputError, match=f"{tmp_path} may not be read by this user"):
        open_source(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).is_dir())
    with pytest.raises(InputError, match=r"a\.jsonl may not be read by this user"):
        open_source(tmp_path)


BAD_LINES = [
    ('{"_id": "2", "text": "b"', r":2: broken JSON \(Expecting ',' delimiter at column 25\)"),
    ('{"_id": "1", "text": "b"}', r":2: the id '1' stands at .*a\.jsonl:1 already"),
    ('{"_id": "2", "text": " "}', r":2: document '2' has no text"),
    (b'{"_id": "2", "text": "caf\xe9"}', r":2: not UTF-8: byte 0xe9 at offset 51"),
    ('{"text": "b"}', r":2: no id: looked for _id, id, docid, doc_id, but found text"),
    ('{"_id": "2", "body": "b"}', r":2: no text: looked for text, contents, but found _id, body"),
    ("[1]", r":2: a JSON object is needed, this line is a list"),
    ('{"_id": "2", "text": 5}', r":2: the field 'text' is 5, but a string is needed"),
    ('{"_id": "2", "text": "b", "lang": "xq"}', r":2: Unknown language 'xq'\. Did you mean"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_a_bad_line_stops_with_its_place_and_what_to_do(tmp_path, line, message):
    bad = line if isinstance(line, bytes) else line.encode()
    path = write(
        tmp_path / "a.jsonl", b'{"_id": "1", "text": "a"}\n' + bad + b'\n{"_id": "3", "text": "c"}\n'
    )
    source = open_source(path)
    documents = source.documents()
    assert next(documents).doc_id == "1"
    with pytest.raises(InputError, match=r"a\.jsonl" + message) as error:
        next(documents)
    assert str(error.value).endswith(". Mend it, or pass over such records with `--on-error skip`.")
    assert "\n" not in str(error.value)


def test_bad_lines_can_be_skipped_and_are_counted(tmp_path):
    bad = [line if isinstance(line, bytes) else line.encode() for line, _ in BAD_LINES]
    content = b"\n".join([b'{"_id": "1", "text": "a"}', *bad, *[b"{"] * 30, b'{"_id": "3", "text": "c"}'])
    source = open_source(write(tmp_path / "a.jsonl", content), on_error="skip")
    for _ in range(2):  # a second reading counts afresh
        assert ids(source) == ["1", "3"]
        assert source.skipped.counts == {
            "broken JSON": 31,
            "duplicate id": 1,
            "empty text": 1,
            "not UTF-8": 1,
            "missing id": 1,
            "missing text": 1,
            "not an object": 1,
            "wrong type": 1,
            "unknown language": 1,
        }
        assert len(source.skipped.examples) == 20
        assert source.skipped.examples[2].endswith("a.jsonl:4: document '2' has no text")
    assert str(source.skipped).startswith("39 skipped (31 broken JSON, ")
    assert "; first: " in str(source.skipped)


def test_nothing_left_after_skipping_is_an_error(tmp_path):
    source = open_source(write(tmp_path / "a.jsonl", "{\n[]\n"), on_error="skip")
    with pytest.raises(InputError, match=r"a\.jsonl holds no documents that can be used: 2 skipped \("):
        ids(source)


def test_a_damaged_file_stops_even_when_skipping(tmp_path):
    records = (json.dumps({"_id": str(i), "text": os.urandom(20).hex()}) + "\n" for i in range(2000))
    packed = gzip.compress("".join(records).encode())
    source = open_source(write(tmp_path / "a.jsonl.gz", packed[:-2000]), on_error="skip")
    with pytest.raises(InputError, match=r"a\.jsonl\.gz is cut off or damaged"):
        ids(source)


def test_duplicates_in_different_files_name_both(tmp_path):
    write(tmp_path / "docs-1.jsonl", jsonl(ONE, TWO))
    write(tmp_path / "docs-2.jsonl", jsonl({"_id": "3", "text": "t"}, TWO))
    with pytest.raises(InputError, match=r"docs-2\.jsonl:2: the id '2' stands at .*docs-1\.jsonl:2 already"):
        ids(open_source(tmp_path))


def test_bad_files_of_a_folder_can_be_skipped(tmp_path):
    write(tmp_path / "a.txt", b"caf\xe9")
    write(tmp_path / "b.txt", "")
    write(tmp_path / "c.txt", "Text.")
    with pytest.raises(InputError, match=r"a\.txt:1: not UTF-8: byte 0xe9 at offset 3"):
        ids(open_source(tmp_path))
    source = open_source(tmp_path, on_error="skip")
    assert ids(source) == ["c.txt#1"]
    assert source.skipped.counts == {"not UTF-8": 1, "empty text": 1}


def test_the_fingerprint_changes_with_the_files_only(tmp_path):
    path = write(tmp_path / "s" / "a.txt", "Text.")
    first = open_source(tmp_path / "s").fingerprint()
    assert len(bytes.fromhex(first)) == 32
    assert open_source(tmp_path / "s" / "." / ".." / "s", on_error="skip").fingerprint() == first
    status = path.stat()
    write(path, "Texts")  # as long as before
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_source(tmp_path / "s").fingerprint() == first  # by size and time, not by reading
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    changed = open_source(tmp_path / "s").fingerprint()
    write(tmp_path / "s" / "b.txt", "More.")
    more = open_source(tmp_path / "s").fingerprint()
    assert len({first, changed, more}) == 3


def test_the_size_is_that_on_the_disk(tmp_path):
    write(tmp_path / "a.txt", "12345")
    write(tmp_path / "b.txt", "123")
    assert open_source(tmp_path).n_bytes == 8


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(tmp_path):
    import tracemalloc

    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(20_000):
            file.write(jsonl({"_id": str(number), "text": f"{number} " * 200}))
    source = open_source(tmp_path / "a.jsonl")
    tracemalloc.start()
    assert sum(1 for _ in source.documents()) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert source.n_bytes > 20_000_000
    assert peak < 6_000_000  # 20,000 ids, their lines and one dictionary over them


# Folder -> number of documents; of the first, tenth and last: id, title, length, beginning and end of text.
REAL = {
    "xquad/ar": (
        240,
        ("ar-p000", "", 1212, "لم يتخلى فريق بانثرز سوى عن 30", "ات، تم إرجاع اثنين منها للهدف."),
        ("ar-p009", "", 485, "تأسست أول بورصة وارسو في 1817 ", "عمال المتحدون البولندي (PZPR)."),
        ("ar-p239", "", 421, "حيث هي منطقة المقطع العرضي ذات", "لضغطات.:133â€“134:38-1â€“38-11"),
    ),
    "xquad/th": (
        240,
        ("th-p000", "", 1356, "\ufeffทีมรับของแพนเธอร์สถอดใจที่คะแ", "สองครั้งในนั้นกลายเป็นทัชดาวน์"),
        ("th-p009", "", 605, "ตลาดหลักทรัพย์แห่งแรกของวอร์ซอ", "ึ่งเป็นเรื่องที่ย้อนแย้งน่าขัน"),
        ("th-p239", "", 430, "พื้นที่หน้าตัดที่เกี่ยวข้องสำห", "การอัดด้วย: 133–134:38-1–38-11"),
    ),
    "train/ja-jaquad": (
        11_134,
        (
            "jaquad-p00000",
            "手塚治虫",
            216,
            "手塚治虫(てづかおさむ、本名:手塚治(読み同じ)、1928年",
            "良県立医科大学・1961年)。",
        ),
        (
            "jaquad-p00009",
            "手塚治虫",
            772,
            "前述のとおり、幼少期からディズニー映画を愛好していた",
            "請われて嘱託の仕事を受けてもいる。",
        ),
        (
            "jaquad-p11143",
            "レオポルド2世(ベルギー王)",
            643,
            "ベルギーは1830年にオランダから独立したばかりの新興国であ",
            "も関心を示している。",
        ),
    ),
}


@needs_shared
@pytest.mark.parametrize("folder", REAL)
def test_real_collections(folder):
    count, *expected = REAL[folder]
    found = list(open_source(SHARED / folder).documents())
    assert len(found) == count
    assert {document.lang for document in found} == {folder.split("/")[1][:2]}
    for number, (doc_id, title, length, beginning, end) in zip((1, 10, count), expected, strict=True):
        document = found[number - 1]
        assert (document.doc_id, document.title, len(document.text)) == (doc_id, title, length)
        assert document.text.startswith(beginning)
        assert document.text.endswith(end)
        assert document.place == f"corpus.jsonl.gz:{number}"
