import pytest

from mretrieve.index.analyzers import LUCENE_LANGUAGES, Analyzer, analyzer_of, java_analyzer
from mretrieve.index.jvm import java_class, start_jvm

SENTENCES = {
    "ar": "تم اكتشاف الأكسجين بشكل مستقل",
    "el": "Η ανακάλυψη του οξυγόνου",
    "en": "The discovery of oxygen",
    "ja": "東京都に住んでいる",
    "ko": "대한민국의 수도는 서울이다",
    "zh": "我住在北京",
}


def terms_of(lang, text):
    """What Lucene makes of a text, through Anserini's own helper."""
    start_jvm()
    helper = java_class(
        "io/anserini/analysis/AnalyzerUtils",
        static_methods={"analyze": "(L@analysis/Analyzer;Ljava/lang/String;)Ljava/util/List;"},
    )
    java_class("java/util/List", methods={"toString": "()Ljava/lang/String;"})
    found = helper.analyze(java_analyzer(analyzer_of(lang)), text).toString()[1:-1]
    return found.split(", ") if found else []


@pytest.fixture(scope="module")
def anserini_map():
    start_jvm()
    java_class("java/util/Map", methods={"toString": "()Ljava/lang/String;"})
    found = java_class(
        "io/anserini/analysis/AnalyzerMap", static_fields={"analyzerMap": "Ljava/util/Map;"}
    ).analyzerMap.toString()
    return dict(pair.split("=") for pair in found[1:-1].split(", "))


def test_the_map_is_that_of_anserini_but_thai(anserini_map):
    assert len(anserini_map) > 20
    ours = {lang: analyzer_of(lang) for lang in LUCENE_LANGUAGES if lang != "en"}
    assert {lang: a.name for lang, a in ours.items() if a.kind == "anserini"} == {
        lang: name for lang, name in anserini_map.items() if lang != "th"
    }
    assert not anserini_map.keys() & {lang for lang, a in ours.items() if a.kind == "lucene"}


@pytest.mark.parametrize("lang", LUCENE_LANGUAGES)
def test_every_analyzer_is_in_the_jar(lang):
    assert "2530" in terms_of(lang, "Lucene 2530")


def test_texts_become_terms_as_the_languages_want_it():
    assert terms_of("en", SENTENCES["en"]) == ["discoveri", "oxygen"]
    assert terms_of("zh", SENTENCES["zh"]) == ["我住", "住在", "在北", "北京"]
    assert terms_of("ja", SENTENCES["ja"]) == ["東京", "都", "住む"]
    assert terms_of("ko", SENTENCES["ko"])[:3] == ["대한", "한민", "민국"]
    assert terms_of("ar", SENTENCES["ar"])[:2] == ["تم", "اكتشاف"]
    assert len(terms_of("el", SENTENCES["el"])) == 2


@pytest.mark.parametrize("lang", ["th", "km", "lo", "my"])
def test_unspaced_scripts_are_cut_in_python(lang):
    analyzer = analyzer_of(lang)
    assert (analyzer.lang, analyzer.kind) == (lang, "segment")
    assert analyzer.prepare_queries(["ภาษา Thai"], None) == ["ภาษ าษา thai"]
    assert analyzer.prepare_documents(["ปู"], None) == ["ป ู ปู"]


@pytest.mark.parametrize("lang", ["sw", "yo", "vi", ""])
def test_languages_without_an_analyzer_go_by_pieces(lang):
    analyzer = analyzer_of(lang)
    asked = []

    def cut(texts):
        asked.extend(texts)
        return [["▁ha", "bari", "?"], []]

    assert analyzer.kind == "pieces"
    assert analyzer.prepare_documents(["HABARI?", ""], cut) == ["▁ha bari ▁habari", ""]
    assert analyzer.prepare_queries(["HABARI?", ""], cut) == ["▁ha bari ▁habari", ""]
    assert asked == ["habari?", "", "habari?", ""]


def test_pieces_need_something_that_cuts():
    with pytest.raises(ValueError, match="no analyzer for 'sw', so `cut` should be given"):
        analyzer_of("sw").prepare_queries(["habari"], None)


def test_analyzers_of_lucene_read_texts_as_they_are():
    texts = ["Any Text", ""]
    assert analyzer_of("de").prepare_documents(texts, None) == texts
    assert analyzer_of("de").prepare_queries(texts, None) == texts


def test_names_for_the_manifest():
    assert str(analyzer_of("ar")) == "anserini:org.apache.lucene.analysis.ar.ArabicAnalyzer"
    assert str(analyzer_of("ro")) == "lucene:org.apache.lucene.analysis.ro.RomanianAnalyzer"
    assert str(analyzer_of("th")) == "segment:character-runs-1"
    assert str(Analyzer("sw", "pieces", "xlm-r-pieces-1")) == str(analyzer_of("sw"))
