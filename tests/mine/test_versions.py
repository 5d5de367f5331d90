import pytest

from mretrieve.mine.translation_cache import TranslationCache
from mretrieve.mine.translator import by_source
from mretrieve.mine.versions import VersionMaker, with_languages
from mretrieve.types import Document, Query


class Upper:
    """Translates English into capitals with the language before them, but not what holds a digit."""

    name = "upper"
    languages = by_source([("en", "de"), ("en", "fr"), ("fr", "de")])
    characters_at_once = 30

    def __init__(self):
        self.calls = []

    def version(self, source, target):
        return "1"

    def translate(self, texts, source, target):
        self.calls.append((source, target, list(texts)))
        return [None if any(map(str.isdigit, text)) else f"{target}: {text.upper()}" for text in texts]


@pytest.fixture
def cache(tmp_path):
    cache = TranslationCache(tmp_path / "cache.sqlite")
    yield cache
    cache.close()


DOCUMENTS = [
    Document("a", "A cat.", title="Cats", lang="en"),
    Document("b", "Catch 22", lang="en"),
    Document("c", "Un chat.", lang="fr"),
    Document("d", "Paka.", lang="sw"),
]


def run(maker, texts):
    return list(maker.run(texts, "documents", lambda *progress: None))


def test_each_document_in_each_language(cache):
    maker = VersionMaker(Upper(), cache, ["de", "fr"], [])
    records = {record["_id"]: record for record in run(maker, DOCUMENTS)}
    assert records["a@de"] == {
        "_id": "a@de",
        "title": "de: CATS",
        "text": "de: A CAT.",
        "lang": "de",
        "source_id": "a",
        "source_lang": "en",
        "translated_by": "upper",
    }
    assert records["c@fr"]["text"] == "Un chat." and records["c@fr"]["translated_by"] is None
    assert records["c@fr"]["title"] == ""
    assert set(records) == {"a@de", "a@fr", "c@de", "c@fr"}
    assert maker.made == {"a": {"de": "a@de", "fr": "a@fr"}, "c": {"de": "c@de", "fr": "c@fr"}}
    assert maker.report.to_dict()["records"] == {
        "en-de": {"not translated": 1, "translated": 1},
        "en-fr": {"not translated": 1, "translated": 1},
        "fr-de": {"translated": 1},
        "fr-fr": {"in the language already": 1},
        "sw-de": {"no such pair": 1},
        "sw-fr": {"no such pair": 1},
    }
    assert [one["id"] for one in maker.report.examples] == ["b", "b"]


def test_only_some_languages_are_translated_from(cache):
    maker = VersionMaker(Upper(), cache, ["de"], ["fr"])
    assert [record["_id"] for record in run(maker, DOCUMENTS)] == ["c@de"]
    assert maker.report.total("left out") == 3


def test_queries_have_no_title(cache):
    [record] = run(VersionMaker(Upper(), cache, ["de"], []), [Query("q", "why?", "en")])
    assert "title" not in record and record["text"] == "de: WHY?"


def test_no_text_is_translated_twice(cache):
    first = Upper()
    documents = [
        Document(str(n), "The same words." if n % 2 else f"text {'x' * n}", lang="en") for n in range(9)
    ]
    records = run(VersionMaker(first, cache, ["de"], []), documents)
    texts = [text for _, _, texts in first.calls for text in texts]
    assert len(texts) == len(set(texts)) == 6
    assert len(first.calls) > 1  # in parts of some characters, each kept before the next
    second = Upper()
    maker = VersionMaker(second, cache, ["de"], [])
    assert run(maker, documents) == records
    assert (second.calls, maker.report.reused) == ([], 6)


def test_what_was_translated_before_a_crash_is_kept(cache):
    class Crashing(Upper):
        def translate(self, texts, source, target):
            if len(self.calls) == 2:
                raise RuntimeError("gone")
            return super().translate(texts, source, target)

    documents = [Document(str(n), "abcde " * (n + 5), lang="en") for n in range(5)]
    with pytest.raises(RuntimeError):
        run(VersionMaker(Crashing(), cache, ["de"], []), documents)
    again = Upper()
    assert len(run(VersionMaker(again, cache, ["de"], []), documents)) == 5
    assert len(again.calls) == 3


def test_languages_are_detected_where_there_is_none():
    [german, given] = with_languages(
        [Query("1", "Wer lieferte die Holzschnitte für die Bibel?"), Query("2", "x", "sw")]
    )
    assert (german.lang, given.lang) == ("de", "sw")


def test_progress(cache):
    seen = []
    maker = VersionMaker(Upper(), cache, ["de"], [])
    list(maker.run(DOCUMENTS * 200, "documents", lambda *progress: seen.append(progress)))
    assert seen == [("documents", 512, None), ("documents", 800, None)]
