import pytest
from mretrieve.ui import marking
from mretrieve.ui.marking import direction, mark, query_words, sentences

from mretrieve.errors import MissingDependencyError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "ltr"),
        ("النهر", "rtl"),
        ("שלום", "rtl"),
        ("1997 ... النهر and more", "rtl"),
        ("In 1997 النهر", "ltr"),
        ("", "ltr"),
        ("42", "ltr"),
        ("元", "ltr"),
    ],
)
def test_direction(text, expected):
    assert direction(text) == expected


def test_marks_are_put_around_escaped_text():
    text = '<b>cats</b> & "dogs"'
    assert mark(text, [(3, 7)], "word") == (
        '&lt;b&gt;<mark class="word">cats</mark>&lt;/b&gt; &amp; &quot;dogs&quot;'
    )
    assert mark("a<b", [(1, 2)], "word") == 'a<mark class="word">&lt;</mark>b'
    assert mark("a", [], "word") == "a"


def words(query, text, lang):
    return [text[start:end] for start, end in query_words(query, text, lang)]


def test_words_of_the_query():
    assert words("the cats", "A cat sat.", "en") == ["cat"]
    assert words("a", "a b c", "xx") == []  # single letters are no help
    assert words("仁", "元仁宗", "zh") == []  # bigrams: one character is part of other words
    assert words("仁宗", "元仁宗", "zh") == ["仁宗"]


def test_short_runs_in_thai_are_chance():
    assert words("กาฬโรคระบาดเมื่อใด", "กาฬโรคมาถึง เมื่อวาน", "th") == ["กาฬโรค", "เมื่อ"]
    assert words("กาฬโรคระบาด", "การบาลี", "th") == []
    assert words("หมา", "หมากับแมว", "th") == ["หมา"]  # unless the query has no longer ones


def test_without_lucene_equal_words_are_found(monkeypatch):
    def missing(*_):
        raise MissingDependencyError("BM25 needs Lucene.")

    monkeypatch.setattr("mretrieve.rank.terms.start_jvm", missing)
    assert words("Cats and dogs", "Two cats, a DOGS shop, a catalogue.", "en") == ["cats", "DOGS"]


def cut(text):
    return [text[start:end] for start, end in sentences(text)]


def test_sentences_are_where_they_stand():
    assert cut("  One. Two!  Three? ") == ["One.", "Two!", "Three?"]
    assert cut("第一。第二。") == ["第一。", "第二。"]
    assert cut("यह पानी है। वह नदी है।") == ["यह पानी है।", "वह नदी है।"]
    assert cut("") == []


def test_scripts_without_marks_are_cut_at_spaces():
    clause = "กาฬโรคระบาดครั้งสุดท้ายเมื่อใด"
    text = " ".join([clause] * 10)
    assert cut(text) == [clause] * 10
    assert cut(clause) == [clause]


def test_only_the_first_sentences_count():
    assert len(cut("One more. " * 100)) == marking.SENTENCES_AT_MOST
