"""Both scripts on some sentences: what they count is what was built."""

import lexical
import numpy as np
from large import ReadyVectors, write_inputs
from lexical import build_lexical
from sentences import Sentences, read_sentences


def test_every_sentence_is_indexed(tiny_data, tmp_path):
    figures = build_lexical(tiny_data, 60, tmp_path, "analyzer")
    langs = read_sentences(tiny_data, 60).langs
    assert (figures["sentences"], figures["languages"]) == (60, len(set(langs)))
    assert figures["seconds"] > 0 and figures["sentences_per_second"] * figures["seconds"] == 60
    folders = {path.name for path in (tmp_path / "lexical").iterdir()}
    assert folders == set(langs) and figures["disk_bytes"] > 0
    assert lexical.__doc__ and "--sentences" in lexical.__doc__


def test_vectors_are_read_where_the_build_is(tmp_path):
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    one = Sentences(list("abcdef"), ["x"] * 6, ["en"] * 6, np.arange(6))
    write_inputs(one, vectors, tmp_path)
    assert (tmp_path / "sentences.jsonl").read_text().count('"lang": "en"') == 6
    ready = ReadyVectors(tmp_path / "vectors", 2)
    assert ready.encode(["x", "x"]).tolist() == vectors[:2].tolist()
    ready.on_progress("vectors", 4, 6)
    assert ready.encode(["x", "x"]).tolist() == vectors[4:].tolist()
    assert ready.seconds.keys() == {"vectors"}
