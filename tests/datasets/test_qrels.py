import gzip
from pathlib import Path

import pytest

from mretrieve.datasets.qrels import read_qrels
from mretrieve.errors import InputError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        "q1 0 d1 1\nq1 0 d2 0\n\nq2 0 d1 2\n",
        "q1\tQ0\td1\t1\r\nq1\tQ0\td2\t0\r\nq2\tQ0\td1\t2\r\n",
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td1\t2\n",
        "q1\td1\t1\nq1\td2\t0\nq2\td1\t2\n",
        "\ufeffq1 0 d1 1\nq1 0 d2 0\nq2 0 d1 2\nq1 0 d1 1\n",  # said twice, with one grade
        gzip.compress(b"q1 0 d1 1\nq1 0 d2 0\nq2 0 d1 2\n"),
    ],
)
def test_judgements_in_every_form(tmp_path, content):
    qrels = read_qrels(write(tmp_path / "qrels", content))
    assert qrels == {"q1": {"d1": 1, "d2": 0}, "q2": {"d1": 2}}


def test_ids_of_beir_may_hold_spaces_and_grades_may_be_negative(tmp_path):
    content = "query-id\tcorpus-id\tscore\nquery 1\tan id\t-1\n"
    assert read_qrels(write(tmp_path / "a.tsv", content)) == {"query 1": {"an id": -1}}


@pytest.mark.parametrize("inside", ["", "qrels"])
def test_a_folder_with_one_split(tmp_path, inside):
    write(tmp_path / "qrels" / "test.tsv", "q1\td1\t1\n")
    assert read_qrels(tmp_path / inside) == {"q1": {"d1": 1}}


def test_a_folder_with_several_splits_asks_which(tmp_path):
    write(tmp_path / "qrels" / "train.tsv", "q1\td1\t1\n")
    write(tmp_path / "qrels" / "dev.tsv", "q1\td1\t1\n")
    with pytest.raises(InputError, match=r"qrels holds several splits \(dev\.tsv, train\.tsv\): give one of"):
        read_qrels(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.tsv holds no judgements"),
        ("query-id\tcorpus-id\tscore\n", "a.tsv holds no judgements"),
        ("q1 0 d1 1\nq1 0 d2\n", r"a\.tsv:2: the grade 'd2' is not a whole number"),
        ("q1 0 d1 1\nq1 d2\n", r"a\.tsv:2: 2 columns, but qrels have `query_id 0 doc_id grade`"),
        ("q1 0 d1 1 x\n", r"a\.tsv:1: 5 columns"),
        ("q1 0 d1 0.5\n", r"a\.tsv:1: the grade '0\.5' is not a whole number"),
        (
            "q1 0 d1 1\nq1 0 d1 2\n",
            r"a\.tsv:2: document 'd1' has grade 2 for query 'q1', but grade 1 further up",
        ),
        (b"q1 0 d\xff 1\n", r"a\.tsv:1: not UTF-8: byte 0xff at offset 6"),
    ],
)
def test_broken_judgements_are_told_with_their_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_qrels(write(tmp_path / "a.tsv", content))


def test_missing_judgements(tmp_path):
    with pytest.raises(InputError, match="There is no file or folder .*nowhere"):
        read_qrels(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no qrels/\*\.tsv: give the file of judgements"):
        read_qrels(tmp_path)


# Address -> queries, judgements, sum of the grades, the first and the last judgement.
REAL = {
    "xquad/ar": (1190, 1190, 1190, ("ar-q0000", "ar-p000", 1), ("ar-q1189", "ar-p239", 1)),
    "train/ja-jaquad/qrels/dev.tsv": (
        3935,
        3939,
        3939,
        ("jaquad-de-000-00-000", "jaquad-p09713", 1),
        ("jaquad-de-100-02-000", "jaquad-p11143", 1),
    ),
    "miracl-topics-qrels/qrels.miracl-v1.0-ar-dev.tsv": (
        2896,
        29_197,
        5658,
        ("0", "151236#1", 1),
        ("15511", "1295397#0", 0),
    ),
    "miracl-topics-qrels/qrels.miracl-v1.0-th-dev.tsv": (
        733,
        7573,
        1343,
        ("4", "9800#4", 1),
        ("4113", "235995#23", 0),
    ),
    "mrtydi-topics-qrels/qrels.mrtydi-v1.1-sw.test.txt": (
        670,
        743,
        743,
        ("2601", "15607#5", 1),
        ("3270", "32664#0", 1),
    ),
}


@needs_shared
@pytest.mark.parametrize("address", REAL)
def test_real_judgements(address):
    n_queries, n_judgements, total, first, last = REAL[address]
    rows = [
        (query_id, doc_id, grade)
        for query_id, judged in read_qrels(SHARED / address).items()
        for doc_id, grade in judged.items()
    ]
    assert len({query_id for query_id, _, _ in rows}) == n_queries
    assert len(rows) == n_judgements
    assert sum(grade for _, _, grade in rows) == total
    assert (rows[0], rows[-1]) == (first, last)


# As the data's own page counts them.
MIRACL_DEV = (
    "ar 29197 bn 4206 de 3144 en 8350 es 6443 fa 6571 fi 12008 fr 3429 hi 3494 id 9668 ja 8354 ko 3057 "
    "ru 13100 sw 5092 te 1606 th 7573 yo 1188 zh 3928"
).split()


@needs_shared
def test_official_judgements():
    for lang, count in zip(MIRACL_DEV[::2], MIRACL_DEV[1::2], strict=True):
        qrels = read_qrels(SHARED / "miracl-topics-qrels" / f"qrels.miracl-v1.0-{lang}-dev.tsv")
        assert (lang, sum(map(len, qrels.values()))) == (lang, int(count))
