import pytest

from mretrieve.errors import InputError
from mretrieve.mine.seq2seq import Seq2SeqTranslator, _batches
from tests.conftest import make_checkpoint
from tests.mine import translators

pytestmark = pytest.mark.slow  # loading models and tokenizers takes its time

SENTENCES = ["A cat sat.", "Why?", "The dog ran on."]
EXTRA_TOKENS = 16


@pytest.fixture(scope="module")
def m2m100(tmp_path_factory):
    return translators.make_m2m100(tmp_path_factory.mktemp("m2m100"))


@pytest.fixture(scope="module")
def nllb(tmp_path_factory):
    return translators.make_nllb(tmp_path_factory.mktemp("nllb"))


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    """A function that makes models as of OPUS-MT."""
    with pytest.MonkeyPatch.context():
        import warnings

        def make(**options):
            with warnings.catch_warnings(action="ignore"):  # sacremoses is not installed
                return translators.make_marian(tmp_path_factory.mktemp("marian"), **options)

        yield make


def by_hand(folder, text, *, forced=None, languages=(), source=None):
    """One sentence by transformers alone: its text, and the first token put out."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if source:
        tokenizer.src_lang = source
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    inputs = tokenizer(text, return_tensors="pt")
    options = {"forced_bos_token_id": tokenizer.convert_tokens_to_ids(forced)} if forced else {}
    width = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        [tokens] = model.generate(
            **inputs,
            **options,
            num_beams=1,
            do_sample=False,
            max_new_tokens=2 * width + EXTRA_TOKENS,
        )
    if forced:
        assert tokens[1] == options["forced_bos_token_id"]
    special = set(tokenizer.convert_tokens_to_ids(list(languages)))
    return tokenizer.decode(
        [token for token in tokens.tolist() if token not in special], skip_special_tokens=True
    )


def test_m2m100(m2m100):
    translator = Seq2SeqTranslator(str(m2m100), device="cpu")
    assert {"de", "sw", "zh"} < translator.languages["en"]
    languages = [f"__{code}__" for code in translator._codes.targets.values()]
    for target in ("de", "sw"):
        for text in SENTENCES:
            expected = by_hand(m2m100, text, forced=f"__{target}__", languages=languages, source="en")
            assert expected
            assert translator.translate([text], "en", target) == [expected.strip()]


def test_nllb(nllb):
    translator = Seq2SeqTranslator(str(nllb), device="cpu")
    assert len(translator.languages) == 185
    for source, target in (("eng_Latn", "zho_Hans"), ("fra_Latn", "arb_Arab")):
        codes = {"eng_Latn": "en", "zho_Hans": "zh", "fra_Latn": "fr", "arb_Arab": "ar"}
        expected = by_hand(
            nllb, SENTENCES[0], forced=target, languages=translator._codes.targets.values(), source=source
        )
        assert expected
        assert translator.translate(SENTENCES[:1], codes[source], codes[target]) == [expected.strip()]


def test_marian_of_one_pair(marian):
    folder = marian(source_lang="en", target_lang="de")
    translator = Seq2SeqTranslator(str(folder), device="cpu")
    assert translator.languages == {"en": {"de"}}
    import warnings

    with warnings.catch_warnings(action="ignore"):
        expected = [by_hand(folder, text) for text in SENTENCES]
    assert all(expected)
    assert [translator.translate([text], "en", "de")[0] for text in SENTENCES] == expected


def test_marian_of_several_targets(marian):
    folder = marian(targets=(">>fra<<", ">>spa<<"), source_lang="en", target_lang="ROMANCE")
    translator = Seq2SeqTranslator(str(folder), device="cpu")
    assert translator.languages == {"en": {"es", "fr"}}
    import warnings

    for target, token in (("fr", ">>fra<<"), ("es", ">>spa<<")):
        with warnings.catch_warnings(action="ignore"):
            expected = by_hand(folder, f"{token} {SENTENCES[0]}")
        assert translator.translate(SENTENCES[:1], "en", target) == [expected]


def test_texts_are_translated_sentence_by_sentence_in_batches(m2m100, monkeypatch):
    translator = Seq2SeqTranslator(str(m2m100), device="cpu")
    alone = {text: translator.translate([text], "en", "de")[0] for text in SENTENCES}
    one, two, three = SENTENCES
    texts = [f"{one} {two}", f"{three}\n\n{one}", two]
    expected = [f"{alone[one]} {alone[two]}", f"{alone[three]}\n\n{alone[one]}", alone[two]]
    monkeypatch.setattr("mretrieve.mine.seq2seq.TOKENS_AT_ONCE", {"cpu": 1})
    assert translator.translate(texts, "en", "de") == expected


def test_long_sentences_are_cut_not_cut_off(nllb, monkeypatch):
    translator = Seq2SeqTranslator(str(nllb), device="cpu")
    parts = []
    monkeypatch.setattr(translator, "_generate", lambda texts, target: parts.extend(texts) or texts)
    text = " ".join(["the cat sat on the mat"] * 20)
    assert translator.translate([text], "en", "de") == [text]
    assert len(parts) < 20 and max(map(len, parts)) <= 70
    unspaced = "abcdefghij" * 20
    assert "".join(translator._parts(unspaced)) == unspaced


def test_batches_hold_lengths_alike_up_to_a_budget():
    assert _batches([3, 9, 2, 8, 3], 18) == [[1, 3], [0, 4, 2]]
    assert _batches([50, 1], 10) == [[0], [1]]
    assert _batches([], 10) == []


def test_the_version_is_of_weights_and_beams(m2m100, nllb):
    one, other = (
        Seq2SeqTranslator(str(folder), device="cpu").version("en", "de") for folder in (m2m100, nllb)
    )
    assert one != other
    assert one != Seq2SeqTranslator(str(m2m100), device="cpu", beams=4).version("en", "de")


def test_beams(m2m100):
    translator = Seq2SeqTranslator(str(m2m100), device="cpu", beams=3)
    assert translator.translate(SENTENCES[:1], "en", "de")[0]
    with pytest.raises(InputError, match="beams is 0"):
        Seq2SeqTranslator(str(m2m100), device="cpu", beams=0)


def test_models_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="translation model '.*empty' cannot be loaded"):
        Seq2SeqTranslator(str(tmp_path / "empty"), device="cpu")
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    make_checkpoint(encoder)
    with pytest.raises(InputError, match="does not say which languages it knows"):
        Seq2SeqTranslator(str(encoder), device="cpu")
