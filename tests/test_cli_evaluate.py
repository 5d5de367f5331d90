"""`mretrieve evaluate` as a user types it."""

import numpy as np
import pytest

from tests.conftest import write_jsonl


@pytest.fixture
def judged(tmp_path):
    """Two runs over two queries with one relevant document each; the second run ranks it second for q2."""
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\ta\t1\nq2\tb\t1\n")
    (tmp_path / "one.trec").write_text("q1 Q0 a 1 2.0 t\nq2 Q0 b 1 2.0 t\n")
    (tmp_path / "two.trec").write_text("q1 Q0 a 1 2.0 t\nq2 Q0 a 1 2.0 t\nq2 Q0 b 2 1.0 t\n")
    return tmp_path


def test_evaluate_prints_a_table_of_runs(command, judged):
    done = command("evaluate", judged / "one.trec", judged / "two.trec", "--qrels", judged / "qrels.tsv")
    second = (1 + 1 / np.log2(3)) / 2  # the relevant document at ranks 1 and 2
    assert done.stdout == (
        "run       queries  nDCG@10   R@100   RR@10\n"
        "one.trec        2   1.0000  1.0000  1.0000\n"
        f"two.trec        2   {second:.4f}  1.0000  0.7500\n"
    )
    assert (done.status, done.stderr) == (0, "")


def test_evaluate_by_language(command, judged):
    records = [{"_id": "q1", "text": "x", "lang": "en"}, {"_id": "q2", "text": "ما هو النهر"}]
    queries = write_jsonl(judged / "queries.jsonl", records)
    options = ["--qrels", judged / "qrels.tsv", "--queries", queries, "--measures", "RR@10"]
    done = command("evaluate", judged / "two.trec", *options)
    assert done.stdout.splitlines() == [
        "run       language       queries   RR@10",
        "two.trec  ar                   1  0.5000",
        "two.trec  en                   1  1.0000",
        "two.trec  mean of these           0.7500",
        "two.trec  all                  2  0.7500",
    ]
    result = command("evaluate", judged / "two.trec", *options, "--json").json[str(judged / "two.trec")]
    assert result["mean"] == result["mean_of_languages"] == {"RR@10": 0.75}
    assert result["languages"]["ar"]["mean"] == {"RR@10": 0.5}


def test_evaluate_prints_json_and_tells_of_missing_queries_on_stderr(command, judged):
    run = judged / "three.trec"
    run.write_text("q1 Q0 a 1 2.0 t\nother Q0 a 1 2.0 t\n")
    done = command("evaluate", run, "--qrels", judged / "qrels.tsv", "--measures", "rr@10, P@1", "--json")
    assert done.json == {
        str(run): {"mean": {"RR@10": 0.5, "P@1": 0.5}, "queries": 2, "missing": 1, "unjudged": 1}
    }
    assert f"{run}: 1 judged query not in the run, counted as 0.\n" in done.stderr
    assert f"{run}: 1 query without judgements, left out.\n" in done.stderr


def test_runs_of_one_name_are_told_apart_by_their_folders(command, judged):
    (judged / "b").mkdir()
    other = judged / "b" / "one.trec"
    other.write_bytes((judged / "two.trec").read_bytes())
    done = command("evaluate", judged / "one.trec", other, "--qrels", judged / "qrels.tsv")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        str(judged / "one.trec"),
        str(other),
    ]
