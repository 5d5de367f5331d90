from mretrieve.ui import facts
from mretrieve.ui.facts import facts as render

from mretrieve.index.manifest import read_manifest


def test_facts_of_an_index(small_index):
    html = render("my <index>", read_manifest(small_index))
    assert "<h2>my &lt;index&gt;</h2>" in html
    assert "<b>6</b><span>passages</span>" in html and "<b>4</b><span>languages</span>" in html
    assert "ArabicAnalyzer" in html and "character-runs-1" in html
    assert "FAISS Flat" in html and "Lucene, k1 0.9, b 0.4" in html
    assert "Experts" not in html
    assert "8 in each" in render("x", read_manifest(small_index), experts="8 in each")


def test_languages_come_with_most_documents_first(small_index):
    html = render("x", read_manifest(small_index))
    places = [html.index(f"<code>{code}</code>") for code in ("de", "en", "ar", "th")]
    assert places == sorted(places)


def test_an_index_of_words_only(words_index):
    html = render("words", read_manifest(words_index))
    assert "none: built without vectors" in html and "<b>none</b><span>dimensions" in html


def test_no_java_is_told(small_index, monkeypatch):
    from mretrieve.errors import MissingDependencyError

    def missing():
        raise MissingDependencyError("BM25 needs Lucene, which is not installed.")

    monkeypatch.setattr(facts, "java_description", missing)
    facts._java.cache_clear()
    assert "none. BM25 needs Lucene" in render("x", read_manifest(small_index))
    facts._java.cache_clear()
