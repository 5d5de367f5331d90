import json
import logging

import numpy as np
import pytest

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.index import jvm
from mretrieve.index.analyzers import analyzer_named
from mretrieve.index.open import open_index, verify
from mretrieve.indexing import build_index, with_languages
from mretrieve.recipe import Bm25Part, EncoderPart, FusionPart, Recipe
from mretrieve.types import Document
from tests.conftest import COLLECTION, make_checkpoint, write_jsonl


def test_an_index_holds_the_collection(small_index, model):
    index = open_index(small_index)
    manifest = verify(small_index)
    documents = index.documents.get(range(6))
    assert [one.doc_id for one in documents] == [one["_id"] for one in COLLECTION]
    assert [one.text for one in documents] == [one["text"] for one in COLLECTION]
    assert [one.lang for one in documents] == [one["lang"] for one in COLLECTION]
    assert {lang: entry.documents for lang, entry in manifest.languages.items()} == {
        "ar": 1,
        "de": 2,
        "en": 2,
        "th": 1,
    }
    assert (manifest.encoder.model, manifest.encoder.dim) == (str(model), 32)
    assert (manifest.dense.factory, len(index.dense)) == ("Flat", 6)


def test_report(tmp_path):
    source = write_jsonl(tmp_path / "a.jsonl", [{"id": 1, "text": "a cat"}, {"id": 2, "text": ""}])
    stages = []
    report = build_index(
        source,
        tmp_path / "idx",
        dense=False,
        on_error="skip",
        on_progress=lambda *stage: stages.append(stage),
    )
    assert report.manifest.documents == 1
    assert report.source.skipped.counts == {"empty text": 1}
    assert {stage for stage, *_ in stages} == {"documents", "lexical", "files"}
    assert ("documents", 1, 1) in stages and ("lexical", 1, 1) in stages


def test_choices_are_those_of_the_command_line(tmp_path, collection, model):
    manifest = build_index(
        collection, tmp_path / "idx", model=str(model), dtype="fp32", faiss="HNSW8", lang="sw", lexical=False
    ).manifest
    assert (manifest.dense.factory, manifest.encoder.dtype) == ("HNSW8", "fp32")
    assert {entry.analyzer for entry in manifest.languages.values()} == {None}
    with pytest.raises(TypeError, match="There is no choice 'langs'"):
        build_index(collection, tmp_path / "idx", langs="sw")


def test_the_recipe_is_kept_in_the_manifest(tmp_path, collection, model):
    recipe = Recipe(
        encoder=EncoderPart(model=str(model), query_prefix="q: ", document_prefix="d: "),
        bm25=Bm25Part(k1=1.2, b=0.75),
        fusion=FusionPart(method="minmax", dense_weight=0.7),
    )
    manifest = build_index(collection, tmp_path / "idx", recipe=recipe).manifest
    assert (manifest.encoder.query_prefix, manifest.encoder.document_prefix) == ("q: ", "d: ")
    assert (manifest.ranking.fusion, manifest.ranking.k1, manifest.ranking.b) == ("minmax:0.7", 1.2, 0.75)


def test_terms_of_bm25_are_chosen_by_language(tmp_path, model):
    texts = {"de": "Der Hund schläft", "fr": "Le chien dort", "th": "หมานอน", "sw": "Mbwa analala"}
    source = write_jsonl(
        tmp_path / "docs.jsonl", [{"_id": lang, "text": text, "lang": lang} for lang, text in texts.items()]
    )

    def terms(name, **choices):
        manifest = build_index(source, tmp_path / name, **choices).manifest
        return {
            lang: analyzer_named(lang, entry.analyzer).terms for lang, entry in manifest.languages.items()
        }

    # German is best by both; French by both alone, but not beside vectors (`mretrieve.index.terms`).
    auto = {"de": "both", "fr": "analyzer", "sw": "pieces", "th": "analyzer"}
    assert terms("hybrid", model=str(model)) == auto
    assert terms("bm25", dense=False) == {**auto, "fr": "both"}
    assert terms("asked", dense=False, bm25_terms="pieces") == dict.fromkeys(auto, "pieces")
    anserini = {"de": "analyzer", "fr": "analyzer", "sw": "pieces", "th": "analyzer"}
    assert terms("anserini", dense=False, bm25_terms="analyzer") == anserini


def test_prompts_decide_the_vectors(tmp_path, collection, model):
    vectors = []
    for prefix in ("", "the "):
        recipe = Recipe(encoder=EncoderPart(model=str(model), document_prefix=prefix), bm25=None)
        build_index(collection, tmp_path / f"idx-{len(vectors)}", recipe=recipe)
        index = open_index(tmp_path / f"idx-{len(vectors)}")
        vectors.append(index.dense.search(np.eye(32, dtype=np.float32)[:1], 6)[0])
    assert not np.allclose(*vectors)


def test_languages_are_filled_in_where_the_data_name_none():
    texts = [
        ("Der Hund lief durch den großen Wald.", ""),
        ("x", "fr"),
        ("ينبع النهر من الجبال", ""),
        ("??", ""),
    ]
    documents = [Document(str(n), text, lang=lang) for n, (text, lang) in enumerate(texts * 300)]
    found = list(with_languages(documents))
    assert [one.doc_id for one in found] == [one.doc_id for one in documents]
    assert [one.lang for one in found] == ["de", "fr", "ar", ""] * 300
    assert [one.lang for one in with_languages(documents, lang="sw")] == ["sw", "fr", "sw", "sw"] * 300


def test_what_cannot_be_done_is_told_before_a_model_is_opened(tmp_path, collection, small_index, monkeypatch):
    monkeypatch.setattr("mretrieve.indexing.Encoder", lambda *_, **__: pytest.fail("the model was opened"))
    for source, path, choices in (
        (tmp_path / "none", tmp_path / "idx", {}),
        (collection, small_index, {}),
        (collection, tmp_path, {"overwrite": True}),
        (collection, tmp_path / "idx", {"lang": "xx"}),
        (collection, tmp_path / "caf\udce9", {}),
        (collection, tmp_path / "idx", {"dense": False, "lexical": False}),
    ):
        with pytest.raises(InputError):
            build_index(source, path, **choices)


@pytest.fixture
def no_lucene(monkeypatch):
    def fail():
        raise MissingDependencyError(jvm.NOT_INSTALLED)

    monkeypatch.setattr(jvm, "find_all", fail)


def test_without_lucene_an_index_gets_no_bm25(tmp_path, collection, model, no_lucene, caplog):
    with caplog.at_level(logging.WARNING, "mretrieve"):
        manifest = build_index(collection, tmp_path / "idx", model=str(model)).manifest
    assert caplog.messages == [f"Building without BM25. {jvm.NOT_INSTALLED}"]
    assert {entry.analyzer for entry in manifest.languages.values()} == {None}


@pytest.mark.parametrize(
    "choices", [{"lexical": True}, {"dense": False}, {"recipe": Recipe(bm25=Bm25Part())}]
)
def test_without_lucene_bm25_is_not_left_out_where_it_was_asked_for(tmp_path, collection, no_lucene, choices):
    with pytest.raises(MissingDependencyError, match="BM25 needs Lucene"):
        build_index(collection, tmp_path / "idx", **choices)
    assert list(tmp_path.iterdir()) == []


def test_a_build_of_the_same_plan_goes_on_and_of_another_starts_afresh(
    tmp_path, collection, model, monkeypatch
):
    from mretrieve.encode.encoder import Encoder

    encode, calls = Encoder.encode_documents, []

    def count(self, texts, **options):
        calls.append(len(texts))
        return encode(self, texts, **options)

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Encoder, "encode_documents", count)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mretrieve.index.stages.build_lexical_part", stop)
        patch.setattr("mretrieve.index.build.build_lexical_part", stop)
        build_index(collection, tmp_path / "idx", model=str(model))
    assert calls == [6]
    plan = json.loads((tmp_path / "idx.building" / "plan.json").read_bytes())
    assert plan["lexical"] is True
    # Only the wish for BM25 has changed, so the vectors are kept.
    build_index(collection, tmp_path / "idx", model=str(model), lexical=False)
    assert calls == [6]
    (tmp_path / "other").mkdir()
    other = make_checkpoint(tmp_path / "other", seed=5)
    build_index(collection, tmp_path / "idx", model=str(other), lexical=False, overwrite=True)
    assert calls == [6, 6]


@pytest.mark.parametrize("change", ["build", "add"])
def test_what_was_passed_over_is_told_when_a_build_goes_on(collection, tmp_path, monkeypatch, change):
    from mretrieve.updating import add_to_index

    source = write_jsonl(tmp_path / "in.jsonl", [{"_id": "a", "text": ""}, {"_id": "b", "text": "one text"}])
    make, options = build_index, {"dense": False}
    if change == "add":
        build_index(collection, tmp_path / "idx", dense=False)
        make, options = add_to_index, {}

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mretrieve.index.build.build_lexical_part", stop)
        make(source, tmp_path / "idx", on_error="skip", **options)
    skipped = make(source, tmp_path / "idx", on_error="skip", **options).source.skipped
    assert (skipped.total, [f"{source}:1"]) == (1, [one[: len(f"{source}:1")] for one in skipped.examples])
    assert not [*tmp_path.rglob("notes.json")]


def test_the_sample_can_be_indexed_by_its_name(tmp_path):
    manifest = build_index("sample", tmp_path / "idx", dense=False).manifest
    assert (manifest.documents, len(manifest.languages)) == (300, 12)
