"""Sentences of parallel text: the first ones are the same however many are asked for."""

import ann
import numpy as np
import pytest
from ann import asked_sentences
from sentences import encode_sentences, read_sentences

from mretrieve.errors import InputError


def test_the_first_sentences_are_the_same_however_many_are_asked_for(tiny_data):
    few, more = read_sentences(tiny_data, 40), read_sentences(tiny_data, 100)
    assert len(few) == 40 and few.ids == more.ids[:40] and few.texts == more.texts[:40]
    assert len(set(more.ids)) == 100
    assert few.rows.tolist() == more.rows[:40].tolist()
    for doc_id, text, row in zip(few.ids, few.texts, few.rows.tolist(), strict=True):
        assert doc_id.startswith(f"ntrex-128-{row:04d}.") and text.split()[0] == f"row{row}"
    assert few.ids[0].endswith(".en") and few.langs[0] == "en"


def test_all_of_them_are_rows_times_languages(tiny_data):
    everything = read_sentences(tiny_data)
    assert len(everything) == 1997 * len(set(everything.langs))


def test_without_parallel_text(tmp_path):
    with pytest.raises(InputError, match="parallel"):
        read_sentences(tmp_path)


def test_a_larger_run_encodes_only_what_is_new(tiny_data, store):
    one = store()
    encode_sentences(read_sentences(tiny_data, 40), one)
    n_before = sum(map(len, one.encoder.calls))
    vectors = encode_sentences(read_sentences(tiny_data, 60), one)
    assert vectors.shape == (60, one.encoder.dim)
    assert (n_before, sum(map(len, one.encoder.calls))) == (40, 60)


def test_translations_among_the_hits(tiny_data, store, monkeypatch):
    one = store()
    monkeypatch.setattr(ann, "sentence_store", lambda: one)
    vectors, asked = asked_sentences(tiny_data, 60, 10)
    assert (len(vectors), len(asked.vectors)) == (60, 10)
    best = np.argsort(-asked.vectors @ vectors.T, axis=1, kind="stable")[:, :2]
    assert asked.translations(best) == 1.0  # a row has no other words than its number and its language
    assert asked.translations(np.full((10, 2), -1)) == 0.0
    assert ann.Asked(vectors[:10]).translations(best) is None
