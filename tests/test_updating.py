import json

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.index.analyzers import analyzer_of
from mretrieve.index.lucene import LexicalIndex
from mretrieve.index.open import open_index
from mretrieve.index.verify import verify_index
from mretrieve.indexing import build_index
from mretrieve.rank.retriever import Retriever
from mretrieve.updating import add_to_index, compact_index, delete_from_index, read_ids
from tests.conftest import COLLECTION, make_checkpoint, write_jsonl

NEW = [
    {"_id": "fox", "text": "A fox runs after the dog in the old garden.", "lang": "en"},
    {"_id": "fuchs", "text": "Der Fuchs schläft im Wald.", "lang": "de"},
    {"_id": "mto", "text": "Mto unatoka milimani.", "lang": "sw"},
]
MODES = ("hybrid", "dense", "bm25")
QUESTIONS = ("the cat in the garden", "Wald", "النهر", "แม่น้ำ", "dog fox mat")


@pytest.fixture
def index(own_index):
    return own_index


@pytest.fixture
def more(tmp_path):
    return write_jsonl(tmp_path / "more.jsonl", NEW)


def found(path, question, mode, **options):
    hits = Retriever(path).search(question, mode=mode, top_k=20, **options)
    return [(hit.doc_id, hit.text, hit.lang, pytest.approx(hit.score, abs=1e-5)) for hit in hits]


def assert_same_answers(path, other):
    for mode in MODES:
        for question in QUESTIONS:
            assert found(path, question, mode) == found(other, question, mode), (mode, question)


def test_an_index_that_was_added_to_answers_as_one_built_at_once(tmp_path, index, more, model):
    done = add_to_index(more, index)
    whole = tmp_path / "whole"
    build_index(write_jsonl(tmp_path / "all.jsonl", [*COLLECTION, *NEW]), whole, model=str(model))
    assert (done.change.added, done.change.replaced, done.change.manifest.documents) == (3, 0, 9)
    assert done.change.manifest.languages == open_index(whole).manifest.languages
    assert_same_answers(index, whole)
    for options in ({"languages": ["de", "sw"]}, {"languages": ["en"]}):
        assert found(index, "Wald", "hybrid", **options) == found(whole, "Wald", "hybrid", **options)
    verify_index(index)


def test_only_new_documents_are_encoded(index, more, monkeypatch):
    read = []
    real = __import__("mretrieve.encode.encoder", fromlist=["Encoder"]).Encoder.encode_documents

    def encode_documents(self, texts):
        read.extend(texts)
        return real(self, texts)

    monkeypatch.setattr("mretrieve.encode.encoder.Encoder.encode_documents", encode_documents)
    add_to_index(more, index)
    assert read == [one["text"] for one in NEW]
    delete_from_index(["cat"], index)
    compact_index(index)
    assert read == [one["text"] for one in NEW]


def test_deleted_documents_are_not_found_by_any_leg(index):
    change = delete_from_index(["cat", "baum"], index)
    assert (change.deleted, change.manifest.documents) == (2, 4)
    assert {lang: one.documents for lang, one in change.manifest.languages.items()} == {
        "ar": 1,
        "de": 1,
        "en": 1,
        "th": 1,
    }
    for mode in MODES:
        for question in QUESTIONS:
            assert not {"cat", "baum"} & {doc_id for doc_id, *_ in found(index, question, mode)}
    assert len(found(index, "Wald", "dense")) == 4
    assert [doc_id for doc_id, *_ in found(index, "Wald", "bm25")] == ["hund"]
    verify_index(index)


def test_a_language_whose_documents_are_all_deleted_is_gone(index):
    manifest = delete_from_index(["river"], index).manifest
    assert "th" not in manifest.languages
    assert "th" not in Retriever(index).languages
    assert found(index, "แม่น้ำ", "bm25") == []


def test_a_document_of_a_known_id_takes_the_old_ones_place(tmp_path, index):
    again = write_jsonl(tmp_path / "again.jsonl", [{"_id": "cat", "text": "Zebras eat grass.", "lang": "en"}])
    change = add_to_index(again, index).change
    assert (change.added, change.replaced, change.manifest.documents) == (1, 1, 6)
    assert [(doc_id, text) for doc_id, text, *_ in found(index, "zebras", "bm25")] == [
        ("cat", "Zebras eat grass.")
    ]
    assert "The cat sat on the mat." not in [text for _, text, *_ in found(index, "mat cat", "dense")]
    verify_index(index)


def test_a_compacted_index_is_the_one_that_a_build_makes(tmp_path, index, more, model):
    add_to_index(more, index)
    delete_from_index(["cat", "fuchs", "نهر"], index)
    before = {mode: found(index, "dog in the garden", mode) for mode in ("dense",)}
    manifest = compact_index(index)
    kept = [one for one in [*COLLECTION, *NEW] if one["_id"] not in ("cat", "fuchs", "نهر")]
    build_index(write_jsonl(tmp_path / "kept.jsonl", kept), tmp_path / "kept", model=str(model))
    assert (manifest.segments, manifest.deleted, manifest.documents) == ({}, 0, 6)
    assert not (index / "segments").exists() and not (index / "deleted.npy").exists()
    assert_same_answers(index, tmp_path / "kept")
    assert found(index, "dog in the garden", "dense") == before["dense"]
    assert manifest.languages == open_index(tmp_path / "kept").manifest.languages
    same = (index / "documents/documents.arrow").read_bytes()
    assert same == (tmp_path / "kept" / "documents/documents.arrow").read_bytes()
    verify_index(index)
    assert compact_index(index) == manifest


@pytest.mark.parametrize("faiss", ["HNSW8", "IVF2,Flat", "SQ8", "PQ8x4"])
def test_other_faiss_indexes_are_updated_too(tmp_path, model, more, faiss):
    many = [
        {"_id": f"d{i}", "text": f"passage {word} number {i} of the old garden", "lang": "en"}
        for i, word in enumerate(["cat", "dog", "tree", "river"] * 20)
    ]
    build_index(
        write_jsonl(tmp_path / "many.jsonl", many),
        tmp_path / "i",
        model=str(model),
        faiss=faiss,
        lexical=False,
    )
    add_to_index(more, tmp_path / "i")
    delete_from_index([f"d{i}" for i in range(60)], tmp_path / "i")
    expected = {f"d{i}" for i in range(60, 80)} | {"fox", "fuchs", "mto"}
    assert {doc_id for doc_id, *_ in found(tmp_path / "i", "river", "dense")} <= expected
    manifest = compact_index(tmp_path / "i")
    index = open_index(tmp_path / "i")
    assert (manifest.dense.factory, len(index.dense), manifest.documents) == (faiss, 23, 23)
    assert set(index.documents.doc_ids(range(23))) == expected
    verify_index(tmp_path / "i")


def test_an_open_index_keeps_its_generation(index, more):
    old = Retriever(index)
    old.index.open_all()
    add_to_index(more, index)
    delete_from_index(["dog"], index)
    assert old.index.is_replaced
    ids = [hit.doc_id for hit in old.search("dog", mode="hybrid", top_k=20)]
    assert sorted(ids) == sorted(one["_id"] for one in COLLECTION)


def test_what_was_learned_for_an_index_stays_with_it(index, more):
    from mretrieve.rank.tuning import TunedLanguage, Tuning, read_tuning, write_tuning

    write_tuning(index, Tuning("AP", {"en": TunedLanguage("minmax:0.9", 5, 0.1, 0.1, 0.1, 0.2)}))
    add_to_index(more, index)
    assert str(Retriever(index).tuned["en"]) == "minmax:0.9"
    delete_from_index(["dog"], index)
    manifest = compact_index(index)
    assert set(read_tuning(index, manifest).languages) == {"en"}
    verify_index(index)


def test_another_model_is_refused_and_nothing_changes(tmp_path, index, more):
    before = (index / "manifest.json").read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    make_checkpoint(other, seed=7)
    with pytest.raises(InputError, match="was built with"):
        add_to_index(more, index, model=str(other))
    assert (index / "manifest.json").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(("idx", ".idx"))] == ["idx"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["cat", "wolf"], r"does not hold 'wolf' \(1 of 2 ids\): nothing was deleted.*--ignore-missing"),
        ([one["_id"] for one in COLLECTION], "would leave .* without any document"),
        ("cat", r"Give ids as a list: \['cat'\]"),
    ],
)
def test_ids_that_cannot_be_deleted_are_told(index, ids, message):
    before = (index / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=message):
        delete_from_index(ids, index)
    assert (index / "manifest.json").read_bytes() == before
    assert [entry.name for entry in index.parent.iterdir()] == ["idx"]


def test_missing_ids_can_be_passed_over(index):
    assert delete_from_index(["cat", "wolf"], index, ignore_missing=True).deleted == 1
    manifest = open_index(index).manifest
    assert delete_from_index(["wolf", "cat"], index, ignore_missing=True).manifest == manifest


def test_an_index_of_the_first_format_is_read_and_updated(index, more):
    """As it stood on the disk before there were segments and a checksum of the manifest."""
    data = json.loads((index / "manifest.json").read_text("utf-8"))
    for name in ("segments", "deleted", "sha256"):
        del data[name]
    del data["ranking"]["terms"]
    data["format_version"] = 1
    (index / "manifest.json").write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", "utf-8")
    verify_index(index)
    assert found(index, "Wald", "hybrid")
    add_to_index(more, index)
    verify_index(index)
    assert json.loads((index / "manifest.json").read_text("utf-8"))["format_version"] == 3
    assert len(found(index, "Wald", "dense")) == 9


@pytest.mark.parametrize("terms", ["analyzer", "both"])
def test_a_language_keeps_its_terms_and_a_new_one_gets_the_index_s_choice(tmp_path, terms):
    index = tmp_path / "idx"
    build_index(write_jsonl(tmp_path / "docs.jsonl", COLLECTION), index, dense=False, bm25_terms=terms)
    ranking = open_index(index).manifest.ranking
    polish = {"_id": "pies", "text": "Pies śpi w starym ogrodzie.", "lang": "pl"}
    add_to_index(write_jsonl(tmp_path / "more.jsonl", [*NEW, polish]), index)
    delete_from_index(["cat"], index)
    manifest = open_index(index).manifest
    assert manifest.ranking == ranking and ranking.terms == terms
    for lang, entry in manifest.languages.items():
        assert entry.analyzer == str(analyzer_of(lang, terms)), lang
    hits = found(index, "dog in the gardens", "bm25", lang="en")
    assert {doc_id for doc_id, *_ in hits} == {"dog", "fox"}
    assert compact_index(index).languages == manifest.languages
    verify_index(index)
    assert {doc_id for doc_id, *_ in found(index, "dog in the gardens", "bm25", lang="en")} == {"dog", "fox"}


def test_bm25_scores_of_two_folders_are_those_of_one(tmp_path):
    from mretrieve.index.lucene import LexicalWriter

    texts = ["the river rises", "a mountain river and a mountain", "no water here", "river river"]
    for name, part in (("a", texts[:3]), ("b", texts[3:]), ("all", texts)):
        with LexicalWriter(tmp_path / name, "en") as writer:
            writer.add(part)
    with (
        LexicalIndex([tmp_path / "a", tmp_path / "b"], "en") as joined,
        LexicalIndex(tmp_path / "all", "en") as whole,
    ):
        assert len(joined) == len(whole) == 4
        for query in ("river", "mountain water"):
            for mine, expected in zip(joined.search(query, 4), whole.search(query, 4), strict=True):
                np.testing.assert_allclose(mine, expected, rtol=1e-6)


def test_ids_are_read_by_the_line(tmp_path):
    (tmp_path / "ids.txt").write_bytes("\ufeffcat\r\n\n  نهر \n".encode())
    assert read_ids(tmp_path / "ids.txt") == ["cat", "نهر"]
    (tmp_path / "ids.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no ids"):
        read_ids(tmp_path / "ids.txt")
    with pytest.raises(InputError, match="Cannot read ids from .*gone"):
        read_ids(tmp_path / "gone")


def test_words_are_explained_across_segments(tmp_path, index, more, model):
    from mretrieve.rank.terms import term_scores

    add_to_index(more, index)
    delete_from_index(["cat"], index)
    retriever = Retriever(index)
    for hit in retriever.search("dog garden", mode="bm25", lang="en"):
        (row,) = retriever.index.documents.places_of_ids([hit.doc_id])
        (row,) = retriever.index.documents.live.rows_of([row])
        explained = term_scores(retriever, "dog garden", int(row))
        assert {one.term for one in explained if not one.is_piece} == {"dog", "garden"}
        assert {one.term for one in explained if one.is_piece} == {"▁dog", "▁garden"}
        assert sum(one.score for one in explained) == pytest.approx(hit.score, rel=1e-5)


def test_mining_asks_for_a_compacted_index(index):
    from mretrieve.mine.vectors import DocumentVectors

    delete_from_index(["cat"], index)
    with pytest.raises(InputError, match="run `mretrieve compact"):
        DocumentVectors(open_index(index))
    compact_index(index)
    assert DocumentVectors(open_index(index)).get(np.arange(5)).shape == (5, 32)
