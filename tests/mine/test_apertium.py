import shutil
import time

import pytest

from mretrieve.errors import InputError
from mretrieve.mine import apertium as module
from mretrieve.mine.apertium import Apertium

needs_apertium = pytest.mark.skipif(
    shutil.which("apertium") is None, reason="Apertium is not installed: apt-get install apertium-eng-spa"
)


@pytest.fixture(scope="module")
def translator():
    translator = Apertium()
    if "es" not in translator.languages.get("en", ()):
        pytest.skip("the pair is not installed: apt-get install apertium-eng-spa")
    return translator


@needs_apertium
def test_a_sentence(translator):
    [translation] = translator.translate(["The president visited the city."], "en", "es")
    assert translation.lower() == "el presidente visitó la ciudad."


@needs_apertium
def test_texts_stay_apart_and_in_order(translator):
    """With what has a meaning in the stream, several lines, marks of unknown words and nothing at all."""
    texts = [
        "The cat",
        "A [red] house costs ^5$ / 3 {or} <b>more</b> \\ @home",
        "The first line\nthe second line\n\nthe last line.",
        "The xyzzyq works",
        "2 * 3 = 6",
        "\x00\x02 the dog \x1b",
        "[][\x023\x02]",
        "Is this a question?",
    ] * 5
    translations = translator.translate(texts, "en", "es")
    assert len(translations) == len(texts)
    assert translations[:8] * 5 == translations
    assert translations[0] == "El gato"
    for mark in "[]^$/{}<>\\@":
        assert mark in translations[1]
    assert [line.lower() for line in translations[2].splitlines()] == [
        "la primera línea",
        "la segunda línea",
        "",
        "la última línea.",
    ]
    assert "xyzzyq" in translations[3] and "*" not in translations[3]
    assert translations[4] == "2 * 3 = 6"
    assert "perro" in translations[5]
    assert translations[7].endswith("?")


@needs_apertium
def test_a_text_is_translated_as_it_is_alone(translator):
    texts = ["The house is big", "they are old", "Where?"]
    assert translator.translate(texts, "en", "es") == [
        translator.translate([text], "en", "es")[0] for text in texts
    ]
    assert translator.translate([], "en", "es") == []


@needs_apertium
def test_the_version_is_of_programs_and_data(translator):
    version = translator.version("en", "es")
    assert version.startswith("Apertium 3") and " eng-spa " in version
    assert version != translator.version("es", "en")


@needs_apertium
def test_many_texts_are_fast(translator):
    start = time.perf_counter()
    translations = translator.translate(["The house on the hill is old."] * 1000, "en", "es")
    assert len(set(translations)) == 1 and translations[0]
    assert time.perf_counter() - start < 60  # one process for each would take five minutes


def test_without_apertium(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="Apertium is not installed.*apt-get install apertium"):
        Apertium()


def test_without_pairs(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/apertium")
    monkeypatch.setattr(module, "_run", lambda command: b"\n")
    with pytest.raises(InputError, match="no pair of languages installed"):
        Apertium()


def test_modes_with_and_without_variants(monkeypatch):
    modes = b"  eng-cat_valencia\n  eng-cat\n  es-pt_BR\n  nob-nno\n  eng-spa-tagger\n"
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/apertium")
    monkeypatch.setattr(module, "_run", lambda command: modes)
    found = Apertium()
    assert found.languages == {"en": {"ca"}, "es": {"pt"}, "no": {"nn"}}
    assert found._modes["en", "ca"] == "eng-cat"
    assert found._modes["es", "pt"] == "es-pt_BR"


def test_programs_that_fail():
    with pytest.raises(InputError, match="`sh -c .*` failed with status 3: broken"):
        module._run(["sh", "-c", "echo broken >&2; exit 3"])


def test_output_that_lost_a_text(monkeypatch):
    answer = b"uno[][\x020\x02]\0 \0tres[][\x022\x02]\0"
    monkeypatch.setattr(module, "_run", lambda command, text: answer)
    assert module._translate(["one", "two", "three"], "eng-spa") == {0: "uno", 2: "tres"}
