"""Variants of queries: what stays, what changes, and that they are the same each time."""

import builtins
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mretrieve.errors import InputError, MissingDependencyError
from mretrieve.evaluate.perturb import RATES, perturb, romanise
from mretrieve.types import Query

TEXTS = (
    "Who built the first steam engine in England?",
    "ما هي عاصمة فرنسا؟",
    "फ्रांस की राजधानी क्या है?",
    "法国的首都是哪里？",
    "ประเทศไทยมีจังหวัดกี่จังหวัด",
    "Кто построил первую машину?",
    "한국의 수도는 어디인가",
    "Je, mto mrefu zaidi Afrika ni upi?",
)
QUERIES = [Query(f"q{n}", text) for n, text in enumerate(TEXTS)]
WORDS = {"": {"steam": "vapeur", "engine": "machine", "首都": "capital", "mto": "river"}}


def variant(text, kind, query_id="q", **options):
    return perturb([Query(query_id, text)], kind, **options).queries[0].text


@pytest.mark.parametrize("kind", RATES)
def test_variants_depend_on_seed_and_id_alone(kind):
    made = perturb(QUERIES, kind, dictionaries=WORDS, seed=5)
    assert perturb(QUERIES, kind, dictionaries=WORDS, seed=5) == made
    backwards = perturb(QUERIES[::-1], kind, dictionaries=WORDS, seed=5)
    assert backwards.queries[::-1] == made.queries
    assert [one.query_id for one in made.queries] == [one.query_id for one in QUERIES]
    assert made.changed == sum(a.text != b.text for a, b in zip(made.queries, QUERIES, strict=True))
    if kind in ("typo", "camouflage"):
        assert perturb(QUERIES, kind, seed=6).queries != made.queries


@pytest.mark.parametrize("kind", RATES)
def test_a_rate_of_zero_changes_nothing(kind):
    assert perturb(QUERIES, kind, rate=0, dictionaries=WORDS).queries == tuple(QUERIES)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", ["typo", "camouflage"])
def test_every_script_is_changed(kind, text):
    assert any(variant(text, kind, rate=1, seed=seed) != text for seed in range(3))


def test_a_typo_is_one_edit_and_keeps_the_first_letter():
    for seed in range(200):
        made = variant("mountain", "typo", rate=1, seed=seed)
        assert made[0] == "m"
        assert abs(len(made) - 8) <= 1
        same = sum(a == b for a, b in zip(made, "mountain", strict=False))
        back = sum(a == b for a, b in zip(made[::-1], "mountain"[::-1], strict=False))
        assert same + back >= 6  # all before the slip and all after it
    assert variant("at 1989 in", "typo", rate=1) == "at 1989 in"


def test_marks_stay_upon_their_letters():
    for seed in range(50):
        made = variant("राजधानी", "typo", rate=1, seed=seed)
        assert not unicodedata.category(made[0]).startswith("M")
        assert unicodedata.normalize("NFC", made) == made


def test_about_as_many_words_are_changed_as_the_rate_says():
    text = " ".join(["mountain"] * 2000)
    changed = sum(word != "mountain" for word in variant(text, "typo", rate=0.3).split())
    assert 0.25 < changed / 2000 < 0.35


def test_romanised_is_ascii_and_keeps_latin_words():
    for query in QUERIES:
        assert variant(query.text, "romanise").isascii()
    assert variant(TEXTS[0], "romanise") == TEXTS[0]
    assert romanise("Москва") == "Moskva"


def test_romanising_without_the_package(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **options):
        if name == "anyascii":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match="pip install anyascii"):
        perturb(QUERIES, "romanise")


def test_code_mixing_replaces_known_words_only():
    assert variant(TEXTS[0], "code-mix", rate=1, dictionaries=WORDS) == (
        "Who built the first vapeur machine in England?"
    )
    assert variant(TEXTS[3], "code-mix", rate=1, dictionaries=WORDS) == "法国的 capital 是哪里？"
    assert variant(TEXTS[1], "code-mix", rate=1, dictionaries=WORDS) == TEXTS[1]
    german = Query("q", "der Fluss", "de")
    chosen = perturb([german], "code-mix", rate=1, dictionaries={"de": {"fluss": "river"}} | WORDS)
    assert chosen.queries[0].text == "der river"


def test_camouflage_looks_alike():
    made = variant("Who asked?", "camouflage", rate=1, seed=2)
    assert len(made) == len("Who asked?")
    assert made != "Who asked?"
    invisible = variant("ما هي", "camouflage", rate=1, seed=1)
    assert re.sub("\u2060", "", invisible) == "ما هي" != invisible


def test_a_query_is_never_emptied():
    assert variant("ال", "romanise", rate=1) != ""
    assert variant("‌", "romanise", rate=1) == "‌"  # nothing but a joiner, of which nothing is left


@settings(deadline=None, max_examples=60)
@given(text=st.text(min_size=1).filter(str.strip), kind=st.sampled_from(list(RATES)), seed=st.integers(0, 99))
def test_any_text_can_be_changed(text, kind, seed):
    made = variant(text, kind, rate=1, seed=seed, dictionaries=WORDS)
    assert made.strip()
    made.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("noise", {}, "Unknown kind 'noise'. Choose from: typo, romanise, code-mix, camouflage"),
        ("typo", {"rate": 1.5}, "The rate is 1.5"),
        ("typo", {"rate": -0.1}, "The rate is -0.1"),
        ("code-mix", {}, "Mixing languages needs a dictionary"),
    ],
)
def test_wrong_input(kind, options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        perturb(QUERIES, kind, **options)
