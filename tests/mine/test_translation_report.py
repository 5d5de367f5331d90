import json

from mretrieve.mine.translation_report import EXAMPLES, TranslationReport


def test_counts_by_languages_and_examples_of_failures():
    report = TranslationReport("apertium", {"en-de": "1"})
    for n in range(30):
        report.add(f"d{n}", "x" * 500, "en", "de", "not translated")
    report.add("d", "text", "en", "de", "translated")
    report.add("d", "text", "", "de", "no such pair")
    assert report.total("not translated") == 30
    found = json.loads(report.to_json())
    assert found["records"] == {
        "?-de": {"no such pair": 1},
        "en-de": {"not translated": 30, "translated": 1},
    }
    assert len(found["not translated"]) == EXAMPLES
    assert found["not translated"][0] == {"id": "d0", "from": "en", "to": "de", "text": "x" * 200}
    assert found["versions"] == {"en-de": "1"}
