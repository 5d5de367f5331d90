"""What training leaves aside is the same for everybody, and whole groups of parallel text at a time."""

from pathlib import Path

import pytest

from mretrieve.datasets.heldout import (
    NTREX_EVALUATION_ROWS,
    NTREX_TRAINING_ROWS,
    NTREX_TUNING_ROWS,
    held_out_mlqa,
    is_held_out_language,
    is_held_out_mlqa,
    mlqa_groups,
    ntrex_row,
    parallel_groups,
    read_held_out_languages,
)
from mretrieve.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


def write_qrels(path, pairs):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, pair)) for pair in pairs)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_groups_reach_over_questions_and_files(tmp_path):
    same = write_qrels(tmp_path / "same.tsv", [("en-q1", "p5", 1), ("de-q1", "p2", 1), ("en-q9", "p9", 1)])
    cross = write_qrels(tmp_path / "cross.tsv", [("en-q1", "p2", 1), ("en-q2", "p2", 1), ("en-q9", "p2", 0)])
    groups = parallel_groups([same, cross])
    assert groups.documents == {"p2": "p2", "p5": "p2", "p9": "p9"}
    assert groups.queries == {"en-q1": "p2", "de-q1": "p2", "en-q2": "p2", "en-q9": "p9"}


def test_a_long_chain_is_one_group_whatever_the_order(tmp_path):
    pairs = [(f"q{n}", f"p{n + step}", 1) for n in range(1000, 3000) for step in (0, 1)]
    forward = parallel_groups([write_qrels(tmp_path / "forward.tsv", pairs)])
    backward = parallel_groups([write_qrels(tmp_path / "backward.tsv", pairs[::-1])])
    assert set(forward.documents.values()) == {"p1000"}
    assert forward == backward


def test_a_document_and_a_question_may_have_the_same_id(tmp_path):
    groups = parallel_groups([write_qrels(tmp_path / "a.tsv", [("1", "2", 1), ("2", "3", 1)])])
    assert groups.documents == {"2": "2", "3": "3"}


def test_the_share_held_out_is_a_fifth():
    chosen = sum(is_held_out_mlqa(f"group-{n}") for n in range(10_000))
    assert chosen == pytest.approx(2000, abs=120)  # three standard deviations


def test_what_is_held_out_never_changes():
    # Worked out with `sha256sum`: a trained model cannot be asked again what it has not seen.
    names = [f"mlqa-dev-p{n:05}" for n in range(12)]
    assert [name[-2:] for name in names if is_held_out_mlqa(name)] == ["07", "10"]


def test_groups_are_held_out_whole(tmp_path):
    pairs = [(f"q{n}-{lang}", f"p{n:03}-{other}", 1) for n in range(50) for lang in "ab" for other in "abc"]
    write_qrels(tmp_path / "qrels" / "train.tsv", pairs[::2])
    write_qrels(tmp_path / "qrels" / "train-xling.tsv", pairs[1::2])
    documents, queries = held_out_mlqa(tmp_path)
    groups = {doc_id.split("-")[0][1:].lstrip("0") or "0" for doc_id in documents}
    assert 1 <= len(groups) <= 25
    assert documents == {f"p{int(n):03}-{other}" for n in groups for other in "abc"}
    assert queries == {f"q{n}-{lang}" for n in groups for lang in "ab"}


def test_a_missing_file_is_named(tmp_path):
    write_qrels(tmp_path / "qrels" / "train.tsv", [("q1", "p1", 1)])
    with pytest.raises(InputError, match=r"train-xling\.tsv"):
        mlqa_groups(tmp_path)


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
def test_the_groups_of_mlqa():
    folder = SHARED / "train" / "multi-mlqa"
    groups = mlqa_groups(folder)
    assert len(groups.documents) == 3627
    assert len(groups.queries) == 4187
    assert len(set(groups.documents.values())) == 930
    documents, queries = held_out_mlqa(folder)
    assert (len(documents), len(queries)) == (775, 911)


def test_rows_of_ntrex_do_not_overlap():
    parts = (NTREX_TRAINING_ROWS, NTREX_TUNING_ROWS, NTREX_EVALUATION_ROWS)
    assert [row for part in parts for row in part] == list(range(1997))
    assert ntrex_row("ntrex-0017") == 17
    assert ntrex_row("ntrex-1996") == 1996


@pytest.mark.parametrize("row_id", ["sib-0001", "17", "ntrex-", "ntrex-1a"])
def test_ids_of_other_rows_are_refused(row_id):
    with pytest.raises(InputError, match="ntrex-0017"):
        ntrex_row(row_id)


def test_the_held_out_languages_are_twenty():
    codes = read_held_out_languages(ROOT / "training" / "held-out-languages.txt")
    assert len(codes) == 20
    for code in ("bul", "bul_Cyrl", "bg", "BUL-Cyrl"):
        assert is_held_out_language(code, codes)
    retrieval = "am ar bem de el en es fa fon fr ha hi id ig ja ko no pl pt ro ru rw sv sw th tr vi yo zh"
    assert not [code for code in retrieval.split() if is_held_out_language(code, codes)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"bul\nxyzzy\n", r"list\.txt:2: Unknown language 'xyzzy'"),
        (b"bul # Bulgarian\n\nbul\n", r"list\.txt:3: 'bul' stands in line 1 already"),
        (b"# nothing\n", r"list\.txt names no language"),
        (b"bul\n\xff\n", r"list\.txt:2: not UTF-8"),
    ],
)
def test_broken_lists_of_languages(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_held_out_languages(path)


def test_no_list_of_languages(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_held_out_languages(tmp_path / "list.txt")
