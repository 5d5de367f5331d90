import gzip
import json
import lzma

import pytest

from mretrieve.errors import InputError
from mretrieve.mine.parallel import ParallelFile
from tests.conftest import SHARED, write_jsonl

ROWS = [
    {"id": "r0", "doc": "x", "eng": "A cat sat.", "deu": "Eine Katze saß.", "zho_Hans": "猫坐着。"},
    {
        "id": "r1",
        "eng": "It slept.",
        "eng-GB": "It was asleep.",
        "deu": "Sie schlief.",
        "zho_Hans": "它睡了。",
    },
    {"id": "r2", "eng": "Only here."},
]


@pytest.fixture
def text(tmp_path):
    return ParallelFile(write_jsonl(tmp_path / "text.jsonl", ROWS))


def test_whole_texts_and_texts_of_known_sentences(text):
    texts = ["A cat  sat.", "A cat sat. It slept.", "It was asleep.", "A cat sat. It died.", "Only here."]
    assert text.translate(texts, "en", "de") == [
        "Eine Katze saß.",
        "Eine Katze saß. Sie schlief.",
        "Sie schlief.",
        None,
        None,
    ]
    assert text.translate(["A cat sat.\nIt slept."], "en", "zh") == ["猫坐着。\n它睡了。"]
    assert text.translate(["猫坐着。它睡了。"], "zh", "en") == ["A cat sat. It slept."]


def test_its_languages_are_its_columns(text):
    assert text.languages == {"de": {"en", "zh"}, "en": {"de", "zh"}, "zh": {"de", "en"}}
    assert text.name == "parallel:text.jsonl"


@pytest.mark.parametrize("open_file", [gzip.open, lzma.open])
def test_compressed_files(tmp_path, text, open_file):
    path = tmp_path / ("text.jsonl.xz" if open_file is lzma.open else "text.jsonl.gz")
    with open_file(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)
    other = ParallelFile(path)
    assert other.translate(["It slept."], "en", "de") == ["Sie schlief."]
    assert other.version("en", "de") != text.version("en", "de")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"eng": "x"}\n', "holds no two languages"),
        ("a.jsonl", b"[1]\n", "a.jsonl:1: a row of parallel text is a JSON object"),
        ("a.jsonl", b"{\n", "is no file of parallel text"),
        ("a.jsonl.xz", b"junk", "is no file of parallel text"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        ParallelFile(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="There is no file or folder"):
        ParallelFile(tmp_path / "no.jsonl")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
def test_ntrex():
    text = ParallelFile(SHARED / "parallel" / "ntrex-128.jsonl.xz")
    assert len(text.languages) > 115
    [german, swahili] = (
        text.translate(["Welsh AMs worried about 'looking like muppets'"], "en", lang)[0]
        for lang in ("de", "sw")
    )
    assert german and swahili and german != swahili
    assert text.translate([german], "de", "sw") == [swahili]
