import json
import shutil
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mretrieve.encode.checkpoint import Checkpoint, find_checkpoint
from mretrieve.encode.tokenize import FastStartTokenizer, LibraryTokenizer
from mretrieve.errors import InputError
from mretrieve.models.unigram import unigram_tokenizer_json, write_unigram
from mretrieve.understand.running import TextModel
from mretrieve.understand.trim import check_vocabulary, choose_pieces, trim_embeddings, trim_tokenizer
from tests.conftest import PIECES, make_checkpoint
from tests.models.nomic import tiny_config, tiny_model

SPECIAL = {"bos": 0, "pad": 1, "eos": 2, "unk": 3}
RARE = ("zzz", -30.0)  # kept for being the least likely; without it `ing` would be that
READERS = [LibraryTokenizer, FastStartTokenizer]


def vocabulary_folder(folder, pieces):
    """A tokenizer in both forms, and nothing else."""
    folder.mkdir()
    pieces = [*PIECES[:4], *pieces, PIECES[-1]]
    content = unigram_tokenizer_json(pieces, {9: " "}, special=SPECIAL)
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    write_unigram(folder, pieces, {9: " "}, special=SPECIAL)
    return folder


def trimmed(source, folder, texts, prefix=""):
    folder.mkdir()
    kept = choose_pieces(Checkpoint("x", source, {}, "mean", 100, "", prefix), texts)
    trim_tokenizer(source, folder, kept)
    return kept


def ids(reader, folder, texts):
    return [one.tolist() for one in reader(folder).encode_batch(texts, max_length=1000)]


# Letters д and 字 stand for scripts of their own; x is in no piece, and not every letter is one by itself.
LETTERS = "abcд字"
SCORE = st.floats(-20, -1).map(lambda score: round(score, 2))
WORDS = st.text(LETTERS, min_size=1, max_size=3)
PIECE = st.builds(lambda start, word: "▁" * start + word, st.booleans(), WORDS)
VOCABULARY = st.dictionaries(PIECE, SCORE, min_size=4, max_size=25).map(
    lambda found: [("▁", -3.0), *found.items()]
)
TEXTS = st.lists(st.text(LETTERS + "x ", max_size=12), max_size=6)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("vocabularies")
    numbers = count()
    return lambda: root / str(next(numbers))


@settings(max_examples=60, deadline=None)
@given(pieces=VOCABULARY, sample=TEXTS, others=TEXTS)
def test_text_whose_pieces_are_kept_is_cut_as_before(places, pieces, sample, others):
    source, folder = vocabulary_folder(places(), pieces), places()
    kept = trimmed(source, folder, sample)
    texts = [*sample, *others]
    for reader in READERS:
        before, after = ids(reader, source, texts), ids(reader, folder, texts)
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            if number < len(sample) or set(old) <= set(kept):
                assert [kept[one] for one in new] == old


@pytest.mark.parametrize("reader", READERS)
def test_text_that_used_a_dropped_piece_is_spelled_with_others(tmp_path, reader):
    source, folder = vocabulary_folder(tmp_path / "full", [*PIECES[4:-1], RARE]), tmp_path / "small"
    trimmed(source, folder, ["the cab"])
    assert reader(source).pieces(["the king"]) == [["▁the", "▁", "k", "ing"]]
    assert reader(folder).pieces(["the king"]) == [["▁the", "▁", "k", "i", "n", "g"]]
    assert 3 not in ids(reader, folder, ["the king"])[0]


def test_pieces_of_prompts_are_kept(tmp_path):
    source = vocabulary_folder(tmp_path / "full", [*PIECES[4:-1], RARE])
    (source / "config_sentence_transformers.json").write_text('{"prompts": {"task": "the: "}}')
    kept = trimmed(source, tmp_path / "small", ["cab"], prefix="ing ")
    assert {number for number, (piece, _) in enumerate(PIECES) if piece in ("▁the", "ing")} <= set(kept)


@pytest.mark.parametrize("reader", READERS)
def test_embeddings_of_kept_text_are_those_of_the_full_model(tmp_path, reader, monkeypatch):
    from mretrieve.models.nomic_files import save_nomic_moe

    source = make_checkpoint(_made(tmp_path / "base"), prompts={"passage": "a "})
    write_unigram(source, PIECES, {9: " ", 0xFB01: "fi"}, special=SPECIAL)
    monkeypatch.setattr("mretrieve.understand.running.tokenizer_for", lambda folder, texts: reader(folder))
    full = TextModel(source)
    sample = ["king cab", "fade abaca"]
    kept = trimmed(source, tmp_path / "tokenizer", sample, prefix="a ")
    assert len(kept) == len(PIECES) - 1  # only `▁the` goes: single letters stay
    save_nomic_moe(trim_embeddings(full.model, kept), tmp_path / "small", tokenizer=tmp_path / "tokenizer")
    small = TextModel(tmp_path / "small")
    texts = [*sample, "a new cab", "bathe"]
    assert np.abs(small.embed(texts) - full.embed(texts)).max() < 1e-6
    assert np.abs(small.embed(["the"]) - full.embed(["the"])).max() > 1e-3


def _made(folder):
    folder.mkdir()
    return folder


def test_rows_follow_the_ids_in_every_table():
    model = tiny_model(tiny_config(router="stable", vocab_size=48, pad_token_id=3))
    small = trim_embeddings(model, [0, 3, 40])
    assert small.sizes.vocab_size == 3
    assert small.sizes.pad_token_id == 1
    for old, new in (
        (model.embeddings.word_embeddings, small.embeddings.word_embeddings),
        (model.router_embeddings, small.router_embeddings),
    ):
        assert torch.equal(new.weight, old.weight[[0, 3, 40]])


def test_ids_are_renumbered_wherever_they_are_named(tmp_path, sparse):
    """As XLM-R's own files have them: another processor, `<mask>` beyond the vocabulary, a decoder table."""
    source = shutil.copytree(sparse, tmp_path / "full")
    (source / "config_sentence_transformers.json").unlink()  # prompts that need `▁the`
    content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    last = len(content["model"]["vocab"]) - 1
    content["model"]["vocab"].pop()
    content["added_tokens"].append(content["added_tokens"][-1] | {"id": last + 1, "content": "<new>"})
    content["added_tokens"][-2]["content"] = "<mask>"
    content["added_tokens"][-2]["id"] = last
    roberta = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    content["post_processor"] = {
        "type": "Sequence",
        "processors": [roberta | {"trim_offsets": True, "add_prefix_space": False}],
    }
    content["padding"] = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None}
    content["padding"] |= {"pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>"}
    (source / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    decoder = {str(last): {"content": "<mask>"}, "0": {"content": "<s>"}}
    (source / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    (source / "added_tokens.json").write_text(json.dumps({"<mask>": last, "<new>": last + 1}))
    (source / "sentencepiece.bpe.model").write_bytes(b"stale")
    (source / "model.safetensors.index.json").write_text("{}")

    folder = _made(tmp_path / "small")
    kept = choose_pieces(find_checkpoint(str(source)), ["cab"])
    trim_tokenizer(source, folder, kept)
    n = len(kept)
    assert kept[-2:] == [last, last + 1]
    assert n == last + 1  # of last + 2 ids, `▁the` is gone
    tokenizer = LibraryTokenizer(folder)
    assert tokenizer.encode_batch(["<mask> c<new>"], max_length=99)[0].tolist()[1::2][0] == n - 2
    assert n - 1 in tokenizer.encode_batch(["<mask> c<new>"], max_length=99)[0]
    settings_ = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings_["added_tokens_decoder"] == {str(n - 2): {"content": "<mask>"}, "0": {"content": "<s>"}}
    assert json.loads((folder / "added_tokens.json").read_text()) == {"<mask>": n - 2, "<new>": n - 1}
    assert not (folder / "sentencepiece.bpe.model").exists()
    assert not (folder / "model.safetensors.index.json").exists()


def test_other_tokenizers_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no tokenizer\.json: only Unigram"):
        check_vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordPiece"}}', encoding="utf-8")
    with pytest.raises(InputError, match="of type WordPiece: only Unigram"):
        check_vocabulary(tmp_path)
