import pytest

from mretrieve.errors import InputError
from mretrieve.mine.language_codes import find_codes


class Tokenizer:
    """What is asked of a tokenizer: tokens, and the languages that Marian's name."""

    def __init__(self, *tokens, source_lang=None, target_lang=None):
        self.tokens = tokens
        self.source_lang, self.target_lang = source_lang, target_lang

    def get_vocab(self):
        return {token: n for n, token in enumerate(("<s>", "a", "b_c", *self.tokens))}


def test_nllb_and_which_variety_stands_for_a_language():
    codes = find_codes(
        Tokenizer(
            "ace_Arab", "ace_Latn", "acm_Arab", "arb_Arab", "deu_Latn", "zho_Hans", "zho_Hant", "swh_Latn"
        ),
        "x",
    )
    assert codes.way == "forced"
    assert codes.targets == {
        "ace": "ace_Latn",
        "ar": "arb_Arab",
        "de": "deu_Latn",
        "sw": "swh_Latn",
        "zh": "zho_Hans",
    }
    assert codes.languages["de"] == {"ace", "ar", "sw", "zh"}


def test_mbart():
    codes = find_codes(Tokenizer("de_DE", "en_XX", "zh_CN"), "x")
    assert (codes.way, codes.sources) == ("forced", {"de": "de_DE", "en": "en_XX", "zh": "zh_CN"})


def test_m2m100():
    tokenizer = Tokenizer()
    tokenizer.lang_code_to_token = {"de": "__de__", "ns": "__ns__", "ceb": "__ceb__"}
    assert find_codes(tokenizer, "x").targets == {"ceb": "ceb", "de": "de", "nso": "ns"}


def test_madlad():
    codes = find_codes(Tokenizer("<2de>", "<2sw>", "<2translate>"), "x")
    assert (codes.way, codes.targets) == ("prefix", {"de": "<2de>", "sw": "<2sw>"})
    assert codes.languages["en"] == {"de", "sw"}


def test_opus_mt_of_one_pair():
    codes = find_codes(Tokenizer(source_lang="en", target_lang="de"), "some/folder")
    assert (codes.way, codes.languages) == ("fixed", {"en": {"de"}})
    for name in ("Helsinki-NLP/opus-mt-en-de", "folder/opus-mt-tc-big-en-de/"):
        assert find_codes(Tokenizer(), name).languages == {"en": {"de"}}


def test_opus_mt_of_several_targets():
    codes = find_codes(Tokenizer(">>fra<<", ">>spa<<", source_lang="en", target_lang="ROMANCE"), "x")
    assert (codes.way, codes.languages) == ("prefix", {"en": {"fr", "es"}})
    assert codes.targets == {"es": ">>spa<<", "fr": ">>fra<<"}
    many = find_codes(Tokenizer(">>fra<<", ">>spa<<", source_lang="mul", target_lang="mul"), "x")
    assert many.languages == {"en": {"es", "fr"}, "es": {"fr"}, "fr": {"es"}}


def test_models_that_do_not_tell():
    for tokenizer in (
        Tokenizer(),
        Tokenizer(source_lang="en"),
        Tokenizer(source_lang="mul", target_lang="en"),
    ):
        with pytest.raises(InputError, match="'me/model' does not say which languages it knows"):
            find_codes(tokenizer, "me/model")
