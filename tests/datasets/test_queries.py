import gzip
from pathlib import Path

import pytest

from mretrieve.datasets.queries import read_queries
from mretrieve.errors import InputError
from mretrieve.types import Query

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


JSON = '{"_id": "q1", "text": "wapi?", "lang": "swh"}\n{"_id": 2, "text": "¿dónde?"}\n'


@pytest.mark.parametrize(
    ("name", "content", "lang"),
    [
        ("queries.jsonl", JSON, "sw"),
        ("queries.jsonl.gz", gzip.compress(JSON.encode()), "sw"),
        ("topics.tsv", "q1\twapi?\r\n2\t¿dónde?\r\n", ""),
        ("topics.dev.txt.gz", gzip.compress("q1\twapi?\n2\t¿dónde?\n".encode()), ""),
        ("topics.tsv", "qid\tlang\tquery\nq1\tsw\twapi?\n2\t\t¿dónde?\n", "sw"),
        ("topics.csv", "id,text\nq1,wapi?\n2,¿dónde?\n", ""),
        ("topics", "q1\twapi?\n2\t¿dónde?\n", ""),
        ("topics.dev", JSON, "sw"),
    ],
)
def test_queries_in_every_form(tmp_path, name, content, lang):
    path = write(tmp_path / name, content)
    assert read_queries(path) == [Query("q1", "wapi?", lang), Query("2", "¿dónde?", "")]
    if name.startswith("queries"):
        assert read_queries(str(tmp_path)) == read_queries(path)


def test_the_queries_of_the_sample():
    assert len({query.lang for query in read_queries("sample")}) == 12


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.tsv", "", "q.tsv holds no queries"),
        ("q.tsv", "q1\tone\nq2\t  \n", r"q\.tsv:2: query 'q2' has no text"),
        ("q.tsv", "q1\tone\nq1\ttwo\n", r"q\.tsv:2: the id 'q1' stands in line 1 already"),
        ("q.tsv", "q1\tone\ttwo\n", r"q\.tsv:1: 3 columns, but a file without a header holds id<tab>text"),
        ("q.tsv", "no tab\n", r"q\.tsv:1: 1 columns"),
        ("q.tsv", b"q1\tcaf\xe9\n", r"q\.tsv:1: not UTF-8: byte 0xe9 at offset 6"),
        ("q.jsonl", '{"_id": "q1"', r"q\.jsonl:1: broken JSON \("),
        ("q.jsonl", '{"_id": "q1", "text": null}', r"q\.jsonl:1: no text: looked for text, query, question"),
        ("q.jsonl", '\n{"_id": "q1", "text": "t", "lang": "xq"}', r"q\.jsonl:2: Unknown language 'xq'"),
        ("q.jsonl.gz", gzip.compress(JSON.encode())[:-9], r"q\.jsonl\.gz is cut off or damaged"),
        ("q", "What is this?\n", r"q is neither lines of `id<tab>text` nor of JSON objects"),
        ("q", b"\xff\n", r"q:1: not UTF-8"),
    ],
)
def test_broken_queries_are_told_with_their_line(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message) as error:
        read_queries(write(tmp_path / name, content))
    assert "\n" not in str(error.value)


def test_missing_queries(tmp_path):
    with pytest.raises(InputError, match="There is no file or folder .*nowhere"):
        read_queries(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no queries\.jsonl or queries\.jsonl\.gz"):
        read_queries(tmp_path)


# Address -> number of queries; id and text of the first, tenth and last.
REAL = {
    "xquad/ar": (
        1190,
        ("ar-q0000", "كم نقطة تخلى عنها دفاع البانثرز؟"),
        ("ar-q0009", "من هو اللاعب الذي حاز على أكثر الاعتراضات في الموسم؟"),
        ("ar-q1189", "ما الذي يتضمن شروط الضغط عند حساب المساحة في الحجم؟"),
    ),
    "xquad/th": (
        1190,
        ("th-q0000", "ทีมรับของแพนเธอร์สยอมแพ้ที่คะแนนเท่าไร"),
        ("th-q0009", "ผู้เล่นคนใดทำการอินเตอร์เซปสูงสุดในฤดูกาล"),
        ("th-q1189", "อะไรที่รวมถึงเงื่อนไขด้านความดันเมื่อคำนวณพื้นที่ในปริมาณ"),
    ),
    "train/ja-jaquad": (
        35_609,
        ("jaquad-tr-000-00-000", "戦後日本のストーリー漫画の第一人者で、医学博士の一面もある漫画家は誰?"),
        ("jaquad-tr-000-03-000", "『マアチャンの日記帳』の連載期間はいつからいつまで?"),
        ("jaquad-de-100-02-000", "ベルギーは何年にオランダから独立したの?"),
    ),
    "miracl-topics-qrels/topics.miracl-v1.0-ar-dev.tsv": (
        2896,
        ("0", "هل عدم القيام بجهد جسماني ممكن ان يسبب الأرق؟"),
        ("60", "من هو مؤلف سلسلة حرب النجوم؟"),
        ("15511", "من ابتكر المثلجات؟"),
    ),
    "miracl-topics-qrels/topics.miracl-v1.0-yo-dev.tsv": (
        119,
        ("10020#0", "Odun wo ni wọn ṣe idije Olympiiki akọkọ?"),
        ("13935#0", "Awon orile ede wo ni won pe ni Balkani?"),
        ("9593#0", "Kí ni orúkọ bibi akọrin Naira Marley?"),
    ),
    "mrtydi-topics-qrels/topics.mrtydi-v1.1-ja.test.txt.gz": (
        720,
        ("4631", "化学兵器禁止条約はどこで採択された？"),
        ("4640", "ダニエル・レイ・エインジはどこのプロ野球チームに所属した？"),
        ("5352", "クイズ番組『アメリカ横断ウルトラクイズ』の出場者はどのようなひとでしたか？"),
    ),
}


@needs_shared
@pytest.mark.parametrize("address", REAL)
def test_real_queries(address):
    count, *expected = REAL[address]
    found = read_queries(SHARED / address)
    assert len(found) == count
    chosen = [(query.query_id, query.text) for query in (found[0], found[9], found[-1])]
    assert chosen == expected
    lang = address.split("-")[-2 if "miracl" in address else -1][:2] if "topics" in address else ""
    lang = lang or address.split("/")[1][:2]
    assert {query.lang for query in found} == {lang}


# As the data's own page counts them.
MIRACL_DEV = (
    "ar 2896 bn 411 de 305 en 799 es 648 fa 632 fi 1271 fr 343 hi 350 id 960 ja 860 ko 213 ru 1252 sw 482 "
    "te 828 th 733 yo 119 zh 393"
).split()
MRTYDI_TEST = "ar 1081 bn 111 en 744 fi 1254 id 829 ja 720 ko 421 ru 995 sw 670 te 646 th 1190".split()


@needs_shared
def test_official_topics():
    for lang, count in zip(MIRACL_DEV[::2], MIRACL_DEV[1::2], strict=True):
        topics = read_queries(SHARED / "miracl-topics-qrels" / f"topics.miracl-v1.0-{lang}-dev.tsv")
        assert (lang, len(topics)) == (lang, int(count))
    for lang, count in zip(MRTYDI_TEST[::2], MRTYDI_TEST[1::2], strict=True):
        topics = read_queries(SHARED / "mrtydi-topics-qrels" / f"topics.mrtydi-v1.1-{lang}.test.txt.gz")
        assert (lang, len(topics)) == (lang, int(count))


@pytest.mark.parametrize(
    ("name", "lang"),
    [
        ("topics.miracl-v1.0-sw-dev.tsv", "sw"),
        ("topics.mrtydi-v1.1-th.test.txt", "th"),
        ("topics.dev.txt", ""),
        ("topics.mine-v1.0-sw-dev.tsv", ""),
    ],
)
def test_official_files_tell_their_language_by_their_name(tmp_path, name, lang):
    (tmp_path / name).write_text("1\tJe, mto mrefu zaidi ni upi?\n", encoding="utf-8")
    assert [query.lang for query in read_queries(tmp_path / name)] == [lang]
