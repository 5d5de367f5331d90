import csv
import io

import pytest

from mretrieve.reproduction import Reproduction, Score
from mretrieve.reproduction_report import as_csv, markdown, table_rows, write_report


def result(lang, ndcg, recall, *, retriever="bm25", model="", published=(0.4, 0.8)):
    return Reproduction(
        address=f"miracl/{lang}",
        split="dev",
        retriever=retriever,
        model=model,
        topics=100,
        passages=1000,
        official_passages=1000,
        compared_with="BM25",
        source="pyserini",
        scores=(
            Score("nDCG@10", ndcg, published[0], "differs"),
            Score("R@100", recall, published[1], "reproduced"),
        ),
        run="x.trec",
    )


RESULTS = [
    result("sw", 0.25, 0.8),
    result("th", 0.75, 0.8),
    result("sw", 0.5, 0.9, retriever="hybrid", model="e5-small"),
]


def test_ours_stand_above_the_published_systems():
    rows = [row for row in table_rows(RESULTS) if row.measure == "nDCG@10"]
    assert [row.system for row in rows[:3]] == ["mretrieve bm25", "mretrieve hybrid (e5-small)", "BM25"]
    assert rows[0].scores == {"sw": 0.25, "th": 0.75}
    assert rows[2].scores["sw"] == 0.3826 and not rows[2].ours
    assert rows[0].mean(["sw", "th"]) == 0.5
    assert rows[1].mean(["sw", "th"]) is None  # Thai was not measured


def test_the_table_has_the_measured_languages_and_their_mean():
    text = markdown(table_rows(RESULTS))
    assert "## MIRACL v1.0, dev: nDCG@10" in text and "## MIRACL v1.0, dev: R@100" in text
    assert "| system | sw | th | mean of 2 |" in text
    assert "| **mretrieve bm25** | **0.250** | **0.750** | **0.500** |" in text
    assert "| **mretrieve hybrid (e5-small)** | **0.500** |  |  |" in text
    assert "| BM25 | 0.383 | 0.484 | 0.433 |" in text  # (0.3826 + 0.4838) / 2
    assert "- mretrieve bm25: differs: sw -0.1500, th +0.3500" in text
    assert "- BM25: pyserini 1.6, pyserini/2cr/miracl.yaml" in text


def test_a_published_mean_stands_where_all_languages_do():
    from mretrieve.datasets.catalogue import benchmarks

    some = markdown(table_rows(RESULTS))
    assert "nomic-embed-text-v2-moe" not in some  # neither Swahili nor Thai is published of it
    whole = [result(lang, 0.5, 0.5) for lang in benchmarks()["miracl"].languages]
    [row] = [line for line in markdown(table_rows(whole)).splitlines() if "| nomic-embed" in line][:1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[-1] == "0.658" and [cell for cell in cells[1:-1] if cell] == ["0.659"]
    assert ",nomic-embed-text-v2-moe," in as_csv(table_rows(whole)) and ",mean,0.6580,,," in as_csv(
        table_rows(whole)
    )


def test_the_csv_has_a_line_for_each_score():
    lines = list(csv.DictReader(io.StringIO(as_csv(table_rows(RESULTS)))))
    ours = [line for line in lines if line["source"] == "measured"]
    assert len(ours) == 6  # three results, two measures
    assert ours[0] == {
        "benchmark": "miracl",
        "split": "dev",
        "measure": "nDCG@10",
        "system": "mretrieve bm25",
        "source": "measured",
        "language": "sw",
        "score": "0.2500",
        "published": "0.4000",
        "difference": "-0.1500",
        "verdict": "differs",
    }
    assert {line["language"] for line in lines if line["system"] == "BM25"} >= {"sw", "yo", "de"}


def test_files_and_a_plot_for_each_language(tmp_path):
    pytest.importorskip("matplotlib")
    written = write_report(tmp_path / "out", RESULTS)
    names = [path.relative_to(tmp_path / "out").as_posix() for path in written]
    assert names == ["table.md", "table.csv", "plots/miracl-dev-sw.png", "plots/miracl-dev-th.png"]
    for path in written[2:]:
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_without_matplotlib_the_tables_are_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    written = write_report(tmp_path, RESULTS)
    assert [path.name for path in written] == ["table.md", "table.csv"]
