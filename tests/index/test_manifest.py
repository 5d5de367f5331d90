import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mretrieve.errors import InputError
from mretrieve.index.manifest import (
    BuiltBy,
    DenseEntry,
    EncoderIdentity,
    FileEntry,
    LanguageEntry,
    Manifest,
    RankingEntry,
    check_encoder,
    is_index,
    listed_files,
    read_manifest,
)

PATH = Path("idx/manifest.json")
MANIFEST = Manifest(
    documents=5,
    languages={"sw": LanguageEntry(2, "swahili"), "ar": LanguageEntry(3, "arabic")},
    encoder=EncoderIdentity("e5-small", "a1b2c3", 384, "query: ", "passage: ", "bf16"),
    dense=DenseEntry("HNSW32", "efSearch=128"),
    ranking=RankingEntry("minmax:0.7", k1=1.2, b=0.75),
    files={"documents/documents.arrow": FileEntry(9, "bb"), "dense.faiss": FileEntry(10, "aa")},
    built=BuiltBy("0.1.0", "3.11.9", "1.15.1", "2025-01-01T00:00:00+00:00"),
    plan="cc",
)


def changed(**changes):
    return json.dumps(json.loads(MANIFEST.to_json()) | changes)


def test_a_manifest_reads_back_equal():
    assert Manifest.parse(MANIFEST.to_json(), PATH) == MANIFEST


def test_a_manifest_without_dense_part_and_bm25_reads_back_equal():
    lean = Manifest(
        1, {"und": LanguageEntry(1)}, None, None, RankingEntry(), {}, BuiltBy("0", "3", None, ""), ""
    )
    assert Manifest.parse(lean.to_json(), PATH) == lean


@given(st.text(), st.text(), st.dictionaries(st.text(), st.integers(0, 2**40), max_size=3))
def test_any_names_read_back_equal(model, prefix, counts):
    manifest = Manifest(
        documents=sum(counts.values()),
        languages={lang: LanguageEntry(n, None) for lang, n in counts.items()},
        encoder=EncoderIdentity(model, "f", 1, prefix),
        dense=None,
        ranking=RankingEntry(),
        files={},
        built=MANIFEST.built,
        plan="",
    )
    assert Manifest.parse(manifest.to_json(), PATH) == manifest


def test_the_text_is_in_stable_order_and_ends_with_a_newline():
    text = MANIFEST.to_json()
    assert text.index('"ar"') < text.index('"sw"')
    assert text.index('"dense.faiss"') < text.index('"documents/documents.arrow"')
    assert text.endswith("}\n")
    assert list(json.loads(text))[:3] == ["format", "format_version", "documents"]


def test_the_size_is_the_sum_of_all_files():
    assert MANIFEST.n_bytes == 9 + 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"documents": "5"}, r"documents should be a whole number, not '5'"),
        ({"documents": True}, r"documents should be a whole number, not True"),
        ({"documents": -1}, r"documents should not be negative"),
        ({"languages": []}, r"languages should be an object"),
        ({"languages": {"sw": 2}}, r"languages\.sw should be an object"),
        ({"languages": {"sw": {"documents": 2}}}, r"languages\.sw\.analyzer is missing"),
        (
            {"languages": {"sw": {"documents": 2, "analyzer": 1}}},
            r"languages\.sw\.analyzer should be a string",
        ),
        ({"encoder": {"model": "m"}}, r"encoder\.\w+ is missing"),
        ({"dense": {"factory": 3, "search": ""}}, r"dense\.factory should be a string, not 3"),
        ({"dense": {"factory": "Flat", "search": "", "x": 1}}, r"dense\.x is not a field"),
        (
            {"ranking": {"fusion": "rrf:60", "k1": "0.9", "b": 0.4, "terms": "both"}},
            r"ranking\.k1 should be a number, not '0\.9'",
        ),
        ({"files": {"../a": {"n_bytes": 1, "sha256": ""}}}, r"files\.\.\./a is not a name inside"),
        ({"files": {"/a": {"n_bytes": 1, "sha256": ""}}}, r"files\./a is not a name inside"),
        ({"built": None}, r"built should be an object"),
        ({"surprise": 1}, r"surprise is not a field of this format"),
        ({"format": "other"}, r"format should be 'mretrieve-index'"),
        ({"format_version": "1"}, r"format_version should be a whole number"),
    ],
)
def test_a_wrong_field_is_named(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        Manifest.parse(changed(**changes), PATH)
    assert "manifest.json" in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', b"\xff\xfe"])
def test_what_is_no_json_object_is_told(text):
    with pytest.raises(InputError, match=r"manifest\.json (is not JSON|should hold a JSON object)"):
        Manifest.parse(text, PATH)


def test_a_newer_format_says_what_to_do():
    with pytest.raises(InputError, match=r"format 4, newer than .* \(3\)\. Run `pip install -U mretrieve`"):
        Manifest.parse(changed(format_version=4, unknown={}), PATH)


def test_the_second_format_knew_the_terms_of_analyzers_only():
    ranking = {"fusion": "minmax:0.7", "k1": 1.2, "b": 0.75}
    assert Manifest.parse(changed(format_version=2, ranking=ranking), PATH) == MANIFEST
    with pytest.raises(InputError, match=r"ranking\.terms is missing"):
        Manifest.parse(changed(ranking=ranking), PATH)


def test_is_index_knows_our_manifests_of_any_version(tmp_path):
    assert not is_index(tmp_path)
    for text, expected in [
        (MANIFEST.to_json(), True),
        (changed(format_version=7), True),
        (changed(format="web-app"), False),
        ("{", False),
        ('{"name": "My site", "start_url": "/"}', False),
    ]:
        (tmp_path / "manifest.json").write_text(text)
        assert is_index(tmp_path) is expected
    assert not is_index(tmp_path / "manifest.json")


def test_listed_files_are_read_from_newer_formats_too(tmp_path):
    (tmp_path / "manifest.json").write_text(changed(format_version=7))
    assert listed_files(tmp_path) == {"dense.faiss", "documents/documents.arrow"}
    (tmp_path / "manifest.json").write_text(changed(files=3))
    assert listed_files(tmp_path) == set()


def test_a_missing_manifest_is_told(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read .*manifest\.json: No such file"):
        read_manifest(tmp_path)


def test_the_same_weights_are_accepted_under_any_name():
    check_encoder(MANIFEST, "e5-small", "a1b2c3")
    check_encoder(MANIFEST, "/models/e5", "a1b2c3")


def test_another_model_is_an_error_that_names_both():
    message = (
        r"idx was built with e5-small \(fingerprint a1b2c3\), but bge \(ffff\).*--model e5-small.*--model bge"
    )
    with pytest.raises(InputError, match=message):
        check_encoder(MANIFEST, "bge", "ffff", path=Path("idx"))


def test_other_weights_under_the_same_name_are_an_error():
    with pytest.raises(InputError, match="other weights of e5-small"):
        check_encoder(MANIFEST, "e5-small", "ffff")


def test_dense_search_without_a_dense_part_is_an_error():
    lean = Manifest.parse(changed(encoder=None, dense=None), PATH)
    with pytest.raises(InputError, match="no dense part.*--mode bm25"):
        check_encoder(lean, "e5-small", "a1b2c3")
