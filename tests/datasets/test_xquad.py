import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mretrieve.datasets.catalogue import benchmarks
from mretrieve.datasets.collection import open_collection
from mretrieve.datasets.layout import downloads
from mretrieve.datasets.xquad import beir_of_xquad, beir_of_xquad_r, read_paragraphs
from mretrieve.errors import InputError
from tests.official import SHARED

needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))


def squad(path, paragraphs):
    """SQuAD's JSON: (text, [(question, answer)], sentences) of each paragraph."""
    entries = []
    for text, questions, sentences in paragraphs:
        qas = [
            {"id": f"id{n}", "question": q, "answers": [{"answer_start": text.index(a), "text": a}]}
            for n, (q, a) in enumerate(questions)
        ]
        breaks = [[text.index(one), text.index(one) + len(one)] for one in sentences]
        entries.append({"context": text, "qas": qas, "sentence_breaks": breaks, "sentences": sentences})
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"data": [{"title": "Force", "paragraphs": entries}], "version": "1.1"}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


ENGLISH = [
    (
        "Iron rusts. Gold does not.",
        [("What rusts?", "Iron"), ("What stays?", "Gold")],
        ["Iron rusts.", "Gold does not."],
    ),
    ("Rivers flow.", [("What flows?", "Rivers")], ["Rivers flow."]),
]
GERMAN = [
    (
        "Eisen rostet. Gold nicht.",
        [("Was rostet?", "Eisen"), ("Was bleibt?", "Gold")],
        ["Eisen rostet.", "Gold nicht."],
    ),
    ("Flüsse fließen.", [("Was fließt?", "Flüsse")], ["Flüsse fließen."]),
]


def test_a_paragraph_is_relevant_to_its_questions(tmp_path):
    folder = beir_of_xquad("en", squad(tmp_path / "xquad.en.json", ENGLISH))
    collection = open_collection(f"beir:{folder}")
    assert [(d.doc_id, d.text, d.title, d.lang) for d in collection.source().documents()] == [
        ("en-p000", "Iron rusts. Gold does not.", "", "en"),
        ("en-p001", "Rivers flow.", "", "en"),
    ]
    assert [(q.query_id, q.text) for q in collection.queries()] == [
        ("en-q0000", "What rusts?"),
        ("en-q0001", "What stays?"),
        ("en-q0002", "What flows?"),
    ]
    assert collection.judgements() == {
        "en-q0000": {"en-p000": 1},
        "en-q0001": {"en-p000": 1},
        "en-q0002": {"en-p001": 1},
    }


def test_the_hubs_rows_are_the_same_paragraphs(tmp_path):
    rows = [
        {"context": text, "question": q, "answers": {"text": [a], "answer_start": [text.index(a)]}}
        for text, questions, _ in ENGLISH
        for q, a in questions
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "validation-00000-of-00001.parquet")
    found = list(read_paragraphs(tmp_path / "validation-00000-of-00001.parquet"))
    known = list(read_paragraphs(squad(tmp_path / "xquad.en.json", ENGLISH)))
    assert [(one.text, one.questions) for one in found] == [(one.text, one.questions) for one in known]


def test_answers_in_all_languages_are_relevant(tmp_path):
    files = {"de": squad(tmp_path / "de.json", GERMAN), "en": squad(tmp_path / "en.json", ENGLISH)}
    collection = open_collection(f"beir:{beir_of_xquad_r(files)}")
    assert [(d.doc_id, d.text) for d in collection.source().documents()] == [
        ("de-p000-s00", "Eisen rostet."),
        ("de-p000-s01", "Gold nicht."),
        ("de-p001-s00", "Flüsse fließen."),
        ("en-p000-s00", "Iron rusts."),
        ("en-p000-s01", "Gold does not."),
        ("en-p001-s00", "Rivers flow."),
    ]
    qrels = collection.judgements()
    assert len(qrels) == 6
    assert qrels["de-q0001"] == qrels["en-q0001"] == {"de-p000-s01": 1, "en-p000-s01": 1}
    assert {q.query_id: q.lang for q in collection.queries()}["de-q0001"] == "de"


def test_downloads_are_found_by_their_address(tmp_path):
    repositories = {key: benchmarks()[key].repositories["corpus"].name for key in ("xquad", "xquad-r")}
    squad(tmp_path / "mine" / "xquad.th.json", ENGLISH)
    assert len(list(open_collection("xquad/th", root=tmp_path / "mine").source().documents())) == 2
    for lang in benchmarks()["xquad-r"].languages:
        squad(downloads() / repositories["xquad-r"] / "xquad-r" / f"{lang}.json", ENGLISH)
    pool = open_collection("xquad-r")
    assert len(list(pool.source().documents())) == 11 * 3
    assert all(len(judged) == 11 for judged in pool.judgements().values())
    assert pool.measures == ("AP@100",)


def test_a_missing_language_of_the_pool_is_told(tmp_path):
    with pytest.raises(InputError, match=r"xquad-r is not on this machine.*lareqa/xquad-r/zh\.json"):
        open_collection("xquad-r")


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"data": [{"paragraphs": [{"context": "x", "qas": [{}]}]}]}']
)
def test_other_json_is_told(tmp_path, content):
    (tmp_path / "xquad.th.json").write_text(content)
    with pytest.raises(InputError, match=r"xquad\.th\.json has not the form of XQuAD"):
        open_collection("xquad/th", root=tmp_path)


def test_an_answer_between_sentences_is_told(tmp_path):
    broken = [("Iron rusts. Gold does not.", [("What stays?", "Gold")], ["Iron rusts."])]
    with pytest.raises(InputError, match="no sentence holds the answer at offset 12"):
        beir_of_xquad_r({"en": squad(tmp_path / "en.json", broken)})


@needs_shared
@pytest.mark.parametrize(
    ("address", "documents", "topics"), [("xquad/th", 240, 1190), ("xquad-r", 13_014, 13_090)]
)
def test_beir_copies_are_found_too(address, documents, topics):
    collection = open_collection(address, root=SHARED)
    assert collection.passages == documents == sum(1 for _ in collection.source().documents())
    assert len(collection.queries()) == topics
