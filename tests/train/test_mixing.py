"""Entries with passages in other languages: the three ways of Multilingual Translate-Distill."""

from collections import Counter

from mretrieve.train.mixing import Versions, mix_entries
from mretrieve.train.translating import text_id


def entry(number=0):
    return {
        "anchor": f"question {number}",
        "language": "en",
        "positive": f"p{number} en",
        "positive_language": "en",
        "negative_1": f"n{number} en",
        "negative_2": f"m{number} en",
        "negative_languages": ["en", "en"],
        "scores": [3.0, 1.0, 0.0],
    }


def versions(*languages, of=("p", "n", "m"), numbers=range(50)):
    found = Versions()
    for number in numbers:
        for name in of:
            for code in languages:
                found.add(text_id("en", f"{name}{number} en"), code, f"{name}{number} {code}")
    return found


def texts(row):
    return [row["positive"], row["negative_1"], row["negative_2"]]


def test_round_robin_repeats_an_entry_in_each_language():
    rows = list(mix_entries([entry()], versions("de", "sw"), "round-robin", seed=1))
    assert [texts(row) for row in rows] == [
        [f"p0 {code}", f"n0 {code}", f"m0 {code}"] for code in ("de", "en", "sw")
    ]
    assert [row["negative_languages"] for row in rows] == [[code] * 2 for code in ("de", "en", "sw")]
    assert all(row["scores"] == [3.0, 1.0, 0.0] and row["anchor"] == "question 0" for row in rows)


def test_mix_entries_draws_one_language_for_all_passages():
    rows = list(mix_entries(map(entry, range(50)), versions("de", "sw"), "mix-entries", seed=1))
    assert len(rows) == 50
    assert all(set(row["negative_languages"]) == {row["positive_language"]} for row in rows)
    assert set(Counter(row["positive_language"] for row in rows)) == {"de", "en", "sw"}
    assert all(text.endswith(row["positive_language"]) for row in rows for text in texts(row))


def test_mix_passages_draws_for_each():
    rows = list(mix_entries(map(entry, range(50)), versions("de", "sw"), "mix-passages", seed=1))
    mixed = [row for row in rows if len({row["positive_language"], *row["negative_languages"]}) > 1]
    assert len(rows) == 50 and len(mixed) > 30
    for row in rows:
        languages = [row["positive_language"], *row["negative_languages"]]
        assert [text[-2:] for text in texts(row)] == languages
    again = list(mix_entries(map(entry, range(50)), versions("de", "sw"), "mix-passages", seed=1))
    assert rows == again


def test_only_what_there_is_in_a_language_is_drawn():
    some = versions("de", of=("p", "n"))
    assert [row["positive"] for row in mix_entries([entry()], some, "round-robin", seed=1)] == ["p0 en"]
    [row] = mix_entries([entry()], some, "mix-entries", languages=["de"], seed=1)
    assert texts(row) == ["p0 en", "n0 en", "m0 en"], "not all of them are there in German"
    [row] = mix_entries([entry()], some, "mix-passages", languages=["de"], seed=1)
    assert texts(row) == ["p0 de", "n0 de", "m0 en"]
    assert row["negative_languages"] == ["de", "en"]


def test_questions_are_drawn_where_it_is_asked_for():
    found = versions("de")
    found.add_pairs(
        [{"language": "en", "anchor": "question 0", "positive_language": "de", "positive": "Frage 0"}]
    )
    rows = [
        row
        for seed in range(20)
        for row in mix_entries([entry()], found, "mix-passages", questions=True, seed=seed)
    ]
    assert {(row["language"], row["anchor"]) for row in rows} == {("en", "question 0"), ("de", "Frage 0")}


def test_passages_of_a_group_are_versions_of_each_other():
    pairs = [
        {"group": "g", "positive_language": "en", "positive": "p0 en"},
        {"group": "g", "positive_language": "en", "positive": "p0 en"},
        {"group": "g", "positive_language": "de", "positive": "p0 de"},
        {"group": "g", "positive_language": "sw", "positive": "one"},
        {"group": "g", "positive_language": "sw", "positive": "two"},
        {"group": "h", "positive_language": "de", "positive": "n0 de"},
    ]
    found = Versions()
    found.add_groups(pairs)
    assert found.of("en", "p0 en", []) == {"en": "p0 en", "de": "p0 de"}, "which of the two is not known"
    assert found.of("de", "p0 de", ["en"]) == {"en": "p0 en"}
    assert found.of("de", "n0 de", []) == {"de": "n0 de"}
