from mretrieve.mine.page import to_markdown
from mretrieve.mine.report import MiningReport
from tests.mine.test_report import chunk


def test_the_page_shows_tables_and_samples():
    report = MiningReport({"data": "en-qed", "top_k": 100})
    report.add(*chunk(range(1200)), per_query=2)
    lines = to_markdown(report).splitlines()
    assert lines[0] == "# Mined negatives"
    assert "- data: en-qed" in lines
    assert (
        "| language | queries | pairs | positives found | candidates | left | triples | negatives |" in lines
    )
    assert "| en | 1,200 | 1,200 | 600 | 3,000 | 1,200 | 1,200 | 1,200 |" in lines
    assert "| language | scored too near the positive |" in lines
    assert "| all | 1,200 |" in lines
    assert "- triples with fewer negatives: 1,200 of 1,200" in lines
    assert "### Scored too near the positive" in lines
    assert any(line.startswith("- dense (g") and "rank 3, 0.790): text of g" in line for line in lines)


def test_texts_do_not_break_the_page():
    report = MiningReport({})
    sifted, triples = chunk([1])
    object.__setattr__(triples[0].query, "text", "a\n\n# *b* | <c>")
    report.add(sifted, triples, per_query=1)
    assert "**a # \\*b\\* \\| &lt;c>** (q1, en)" in to_markdown(report).splitlines()
