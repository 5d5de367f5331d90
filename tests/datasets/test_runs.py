import gzip
import os
import random
import struct

import pytest

from mretrieve.datasets.runs import read_run, write_run
from mretrieve.errors import InputError


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_run_is_written_as_trec_has_it(tmp_path):
    path = tmp_path / "a.trec"
    n_rows = write_run(path, [("q1", [("d1", 1.5), ("d2", 0.1)]), ("q2", []), ("ق3", [("وثيقة", -2)])], "tag")
    assert n_rows == 3
    assert path.read_text(encoding="utf-8") == (
        "q1 Q0 d1 1 1.5 tag\nq1 Q0 d2 2 0.1 tag\nق3 Q0 وثيقة 1 -2.0 tag\n"
    )
    assert read_run(path) == {"q1": {"d1": 1.5, "d2": 0.1}, "ق3": {"وثيقة": -2.0}}
    assert os.listdir(tmp_path) == ["a.trec"]


def test_equal_runs_are_equal_files_when_gzipped(tmp_path):
    rows = [("q1", [("d1", 1.5)])]
    for name in ("a.gz", "b.gz"):
        write_run(tmp_path / name, rows, "t")
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"q1 Q0 d1 1 1.5 t\n"
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert read_run(tmp_path / "a.gz") == {"q1": {"d1": 1.5}}


def test_scores_keep_single_precision_in_the_fewest_digits(tmp_path):
    scores = [1 / 61 + 1 / 62, 1 / 3, 0.1, 1e-30, 16777217.0, 12.25]
    write_run(tmp_path / "a", [(str(i), [("d", score)]) for i, score in enumerate(scores)], "t")
    written = [line.split()[4] for line in (tmp_path / "a").read_text().splitlines()]
    assert written == ["0.032522473", "0.33333334", "0.1", "1e-30", "16777216.0", "12.25"]
    single = [struct.unpack("f", struct.pack("f", score))[0] for score in scores]
    assert [struct.unpack("f", struct.pack("f", float(text)))[0] for text in written] == single


def test_equal_scores_have_the_last_id_first(tmp_path):
    # Equal in single precision, though not in double precision.
    rows = [("q", [("d9", 2.0), ("a", 1.0 + 1e-9), ("d10", 1.0), ("é", 1.0), ("d2", 1.0)])]
    write_run(tmp_path / "a", rows, "t")
    assert list(read_run(tmp_path / "a")["q"]) == ["d9", "é", "d2", "d10", "a"]


def test_the_rank_written_is_the_rank_that_trec_eval_sees(tmp_path):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = random.Random(7)
    names = [f"{rng.choice('aZé中😀')}{number}" for number in range(60)]
    scores = sorted((rng.choice([0.1, 0.2, 1 / 3, 1 / 3 + 1e-10, rng.random()]) for _ in names), reverse=True)
    write_run(tmp_path / "a", [("q", list(zip(names, scores, strict=True)))], "t")
    run = read_run(tmp_path / "a")
    ranks = {
        line.split()[2]: int(line.split()[3]) for line in (tmp_path / "a").read_text("utf-8").splitlines()
    }
    assert sorted(ranks.values()) == list(range(1, 61))
    for name in names:
        evaluator = pytrec_eval.RelevanceEvaluator({"q": {name: 1}}, {"recip_rank"})
        assert evaluator.evaluate(run)["q"]["recip_rank"] == pytest.approx(1 / ranks[name])


@pytest.mark.parametrize(
    ("rows", "tag", "message"),
    [
        ([("q", [("a b", 1.0)])], "t", "The document id 'a b' is empty or holds white space"),
        ([("q", [("", 1.0)])], "t", "The document id '' is empty"),
        ([("q\t1", [("a", 1.0)])], "t", "The query id 'q\t1' is empty or holds white space"),
        ([("q", [("a", 1.0)])], "my tag", "The tag 'my tag' is empty or holds white space"),
    ],
)
def test_what_the_format_cannot_hold(tmp_path, rows, tag, message):
    with pytest.raises(InputError, match=message):
        write_run(tmp_path / "a", rows, tag)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("q", [("a", 1.0), ("b", 2.0)])], "query 'q': the score at rank 2 is higher"),
        ([("q", [("a", float("nan"))])], "the score of document 'a' for query 'q' is nan"),
        ([("q", [("a", 1e300)])], "the score of document 'a' for query 'q' is inf"),
        ([("q", [("a", 2.0), ("a", 1.0)])], "query 'q' ranks a document twice"),
        ([("q", [("a", 1.0)]), ("q", [("b", 1.0)])], "query 'q' comes twice"),
    ],
)
def test_what_is_no_ranking(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        write_run(tmp_path / "a", rows, "t")
    assert os.listdir(tmp_path) == []


def test_a_broken_off_run_leaves_the_old_one(tmp_path):
    write_run(tmp_path / "a", [("q", [("d", 1.0)])], "old")

    def rows():
        yield "q", [("d", 2.0)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_run(tmp_path / "a", rows(), "new")
    assert (tmp_path / "a").read_text() == "q Q0 d 1 1.0 old\n"
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_run(tmp_path / "link", [("q", [("d", 1.0)])], "t")
    assert (tmp_path / "link").is_symlink()
    assert read_run(tmp_path / "target") == {"q": {"d": 1.0}}


def test_a_run_that_cannot_be_written(tmp_path, monkeypatch):
    rows = [("q", [("d", 1.0)])]
    with pytest.raises(InputError, match="Cannot write .*nowhere/a: No such file or directory"):
        write_run(tmp_path / "nowhere" / "a", rows, "t")
    with pytest.raises(InputError, match="Cannot write .*: Is a directory"):
        write_run(tmp_path, rows, "t")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="Cannot write .*a: No space left on device"):
        write_run(tmp_path / "a", rows, "t")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.trec holds no ranking"),
        ("q Q0 d 1 1.0\n", r"a\.trec:1: 5 columns, but a run has `query_id Q0 doc_id rank score tag`"),
        ("q Q0 d 1 1.0 t\n\nq Q0 d e 2 0.5 t\n", r"a\.trec:3: 7 columns"),
        ("q Q0 d 1 1.0 t\nq Q0 e 2 high t\n", r"a\.trec:2: the score 'high' is not a finite number"),
        ("q Q0 d 1 nan t\n", r"a\.trec:1: the score 'nan' is not a finite number"),
        ("q Q0 d 1 1.0 t\nq Q0 d 2 0.5 t\n", r"a\.trec:2: document 'd' is ranked twice for query 'q'"),
        (b"q Q0 d 1 1.0 \xff\n", r"a\.trec:1: not UTF-8"),
    ],
)
def test_broken_runs_are_told_with_their_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_run(write(tmp_path / "a.trec", content))


def test_a_missing_run(tmp_path):
    with pytest.raises(InputError, match="There is no file or folder"):
        read_run(tmp_path / "a")
    with pytest.raises(InputError, match="is a folder, but a file is needed here"):
        read_run(tmp_path)


def test_duplicates_count_once_at_their_best_score_where_that_is_asked_for(tmp_path):
    path = tmp_path / "a.trec"
    path.write_text("q Q0 d 1 1.0 t\nq Q0 e 2 0.5 t\nq Q0 d 3 2.0 t\nq Q0 d 4 0.1 t\n")
    again = []
    assert read_run(path, on_duplicate=lambda *one: again.append(one)) == {"q": {"d": 2.0, "e": 0.5}}
    assert again == [("q", "d")] * 2
