import json
from pathlib import Path

import pytest

from mretrieve.index.analyzers import LUCENE_LANGUAGES, analyzer_of
from mretrieve.index.terms import FAMILIES, MEASURED, OVERALL, terms_for

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "bm25_hybrid.json"


def test_every_analyzer_s_language_is_of_one_family():
    members = [lang for languages in FAMILIES.values() for lang in languages]
    assert sorted(members) == sorted(LUCENE_LANGUAGES)
    assert MEASURED.keys() <= FAMILIES.keys()


def test_the_table_is_what_was_measured():
    """A row: family, questions, and for each leg the gain, its interval, p, and the terms chosen."""
    rows = {row[0]: row[1:] for row in json.loads(RESULTS.read_text())["families"]}
    assert rows.keys() == {*MEASURED, "all"}
    for family, row in rows.items():
        questions, bm25_gain, _, _, _, alone, hybrid_gain, _, _, _, fused = row
        measured = OVERALL if family == "all" else MEASURED[family]
        assert (measured.questions, measured.alone, measured.fused) == (questions, alone, fused)
        assert measured.bm25_gain == pytest.approx(bm25_gain, abs=5e-5)
        assert measured.hybrid_gain == pytest.approx(hybrid_gain, abs=5e-5)


@pytest.mark.parametrize(
    ("lang", "alone", "fused"),
    [
        ("de", "both", "both"),
        ("fr", "both", "analyzer"),  # a family whose questions say so
        ("hi", "both", "both"),  # a family without questions: as all together
        ("th", "analyzer", "analyzer"),  # cut in Python
        ("sw", "analyzer", "analyzer"),  # which is pieces there
        ("", "analyzer", "analyzer"),
    ],
)
def test_auto_is_by_family(lang, alone, fused):
    assert terms_for(lang, "auto", has_vectors=False) == alone
    assert terms_for(lang, "auto", has_vectors=True) == fused


@pytest.mark.parametrize("terms", ["analyzer", "pieces", "both"])
def test_what_is_asked_for_goes_before(terms):
    assert terms_for("fr", terms, has_vectors=True) == terms
    assert analyzer_of("fr", terms_for("fr", terms, has_vectors=False)).terms == terms


def test_there_are_no_other_terms():
    with pytest.raises(ValueError, match="no terms 'words'. Choose from: auto, analyzer, pieces, both"):
        terms_for("fr", "words", has_vectors=True)
