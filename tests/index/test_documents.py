import subprocess
import sys
import weakref

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mretrieve.errors import InputError
from mretrieve.index.documents import DocumentStore, merge_shards, shard_length, write_shard
from mretrieve.types import Document

TEXTS = [
    Document("ar#1", "ينبع النهر من الجبال", "نهر", "ar"),
    Document("th-ก", "แม่น้ำไหลลงมาจากภูเขา", "", "th"),
    Document("zh 1", "河流发源于山脉。", "河流", "zh"),
    Document("🙂", "tab\tnewline\n\u200f\u0000end", "", ""),
    Document("he/2", "הנהר נובע בהרים", "נהר", "he"),
    Document("ar#2", "نص ثان", "", "ar"),
    Document("", "", "", "zh-TW"),
]


def store_of(folder, documents, shard_size):
    shards = []
    for start in range(0, len(documents), shard_size):
        shards.append(folder / f"{start}.arrow")
        write_shard(shards[-1], documents[start : start + shard_size])
    merge_shards(shards, folder / "documents.arrow")
    return DocumentStore(folder / "documents.arrow")


@pytest.mark.parametrize("shard_size", [1, 2, 3, 7, 100])
def test_any_script_reads_back_equal_in_any_order(tmp_path, shard_size):
    store = store_of(tmp_path, TEXTS, shard_size)
    rows = [6, 0, 3, 0, 5, 1, 2, 4]
    expected = [TEXTS[row] for row in rows]
    found = store.get(rows)
    assert [d.lang for d in found] == [d.lang or "und" for d in expected]
    assert [(d.doc_id, d.title, d.text) for d in found] == [(d.doc_id, d.title, d.text) for d in expected]
    assert store.doc_ids(np.array(rows)) == [d.doc_id for d in expected]
    assert len(store) == 7
    assert store.get([]) == []


@pytest.mark.parametrize("shard_size", [1, 2, 100])
def test_languages_and_their_rows(tmp_path, shard_size):
    store = store_of(tmp_path, TEXTS, shard_size)
    assert store.languages() == {"ar": 2, "he": 1, "th": 1, "und": 1, "zh": 1, "zh-TW": 1}
    assert list(store.languages()) == sorted(store.languages())
    assert store.rows_of("ar").tolist() == [0, 5]
    assert store.rows_of("und").tolist() == [3]
    assert store.rows_of("sw").tolist() == []
    assert store.rows_of("ar").dtype == store.rows_of("sw").dtype == np.int64


@pytest.mark.parametrize("shard_size", [1, 2, 100])
def test_whether_documents_are_in_some_languages(tmp_path, shard_size):
    store = store_of(tmp_path, TEXTS, shard_size)
    rows = np.array([6, 0, 3, 0, 4])
    assert store.in_languages(rows, ["ar", "und", "sw"]).tolist() == [False, True, True, True, False]
    assert not store.in_languages(rows, []).any()


def test_a_store_that_nobody_uses_is_gone_at_once(tmp_path):
    """So that a file that was deleted gives its room back when the index that replaced it is in use."""
    store = store_of(tmp_path, TEXTS, 2)
    store.get([0, 6])
    seen = weakref.ref(store)
    del store
    assert seen() is None


@pytest.mark.parametrize("shard_size", [1, 2, 3, 100])
def test_contents_are_title_and_text(tmp_path, shard_size):
    store = store_of(tmp_path, TEXTS, shard_size)
    assert sum((store.contents(i) for i in range(store.n_batches)), []) == [d.contents for d in TEXTS]
    arabic = list(store.contents_of("ar"))
    assert sum(arabic, []) == ["نهر ينبع النهر من الجبال", "نص ثان"]
    assert all(arabic)
    assert [len(texts) for texts in arabic] == ([1, 1] if shard_size == 1 else [2])
    assert list(store.contents_of("sw")) == []


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.text(), st.text(), st.sampled_from(["", "ar", "en", "yue"])), min_size=1),
    st.integers(1, 5),
)
def test_any_documents_read_back_equal(tmp_path, rows, shard_size):
    documents = [Document(doc_id, text, "", lang or "und") for doc_id, text, lang in rows]
    store = store_of(tmp_path, documents, shard_size)
    assert store.get(range(len(documents))) == documents
    for lang in store.languages():
        assert [documents[row].lang for row in store.rows_of(lang)] == [lang] * store.languages()[lang]


@pytest.mark.parametrize("row", [-1, 7])
def test_a_row_outside_is_an_index_error(tmp_path, row):
    with pytest.raises(IndexError, match=f"row {row} is outside of .*, which holds 7 documents"):
        store_of(tmp_path, TEXTS, 2).get([row])


def test_a_shard_knows_its_length(tmp_path):
    write_shard(tmp_path / "s.arrow", TEXTS[:3])
    assert shard_length(tmp_path / "s.arrow") == 3


def test_the_same_documents_give_the_same_bytes(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.mkdir()
        store_of(path, TEXTS, 2)
    first, second = (path.joinpath("documents.arrow").read_bytes() for path in paths)
    assert first == second


def test_half_a_character_is_told_with_its_place(tmp_path):
    broken = Document("d7", "broken \ud800", lang="en", place="corpus.jsonl:17")
    with pytest.raises(InputError, match=r"corpus\.jsonl:17: the text of document 'd7' holds half"):
        write_shard(tmp_path / "s.arrow", [TEXTS[0], broken])
    assert not (tmp_path / "s.arrow").exists()


@pytest.mark.parametrize("lang", ["../up", "a/b", ".", "en us", "x" * 40, "-", "ελ"])
def test_a_language_that_is_no_code_is_told_with_its_place(tmp_path, lang):
    with pytest.raises(InputError, match=r"c\.tsv:2: document 'd' has the language .* no language code"):
        write_shard(tmp_path / "s.arrow", [Document("d", "t", lang=lang, place="c.tsv:2")])


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"x" * 5000])
def test_a_damaged_file_is_told(tmp_path, content):
    path = tmp_path / "documents.arrow"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"documents\.arrow is damaged"):
        DocumentStore(path)


def test_a_shard_is_not_a_store_of_other_columns(tmp_path):
    import pyarrow as pa
    from pyarrow import ipc

    batch = pa.record_batch({"a": pa.array([1, 2])})
    with ipc.new_file(str(tmp_path / "x.arrow"), batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(InputError, match=r"x\.arrow is damaged or is no document file"):
        DocumentStore(tmp_path / "x.arrow")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="is damaged or is no document file"):
        DocumentStore(tmp_path / "documents.arrow")


def test_no_pandas_is_imported_and_no_file_is_copied(tmp_path):
    """Pandas would cost each search half a second; memory-mapped text costs no memory until it is read."""
    store_of(tmp_path, [Document(f"d{i}", "a word " * 200, lang="en") for i in range(10_000)], 1024)
    assert (tmp_path / "documents.arrow").stat().st_size > 13_000_000
    code = (
        "import sys, pyarrow; from pathlib import Path; from mretrieve.types import Document\n"
        "from mretrieve.index.documents import DocumentStore, merge_shards, write_shard\n"
        "folder = Path(sys.argv[1])\n"
        "write_shard(folder / 's.arrow', [Document('d', 't')])\n"
        "merge_shards([folder / 's.arrow'], folder / 'one.arrow')\n"
        "store = DocumentStore(folder / 'documents.arrow')\n"
        "store.get([3, 9_999]); store.doc_ids([5]); store.contents(2)\n"
        "store.languages(); store.rows_of('en'); next(store.contents_of('en'))\n"
        "assert 'pandas' not in sys.modules, 'pandas'\n"
        "assert 'pyarrow.compute' not in sys.modules, 'compute'\n"
        "assert pyarrow.total_allocated_bytes() < 1_000_000, pyarrow.total_allocated_bytes()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
