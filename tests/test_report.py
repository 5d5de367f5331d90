import errno
import io
import logging
import sys

import pytest

from mretrieve import report
from mretrieve.types import Hit


def test_numbers_are_aligned_at_the_right_and_the_first_column_never():
    table = report.table(["1", "n", "name", "share"], [["7", "12", "a", "0.5"], ["10", "1,234", "bc", ""]])
    assert table.splitlines() == ["1       n  name  share", "7      12  a       0.5", "10  1,234  bc"]


def test_wide_characters_take_two_cells_and_marks_none():
    assert [report.cell_width(text) for text in ("abc", "中文", "แม่น้ำ", "é", "ｱ", "🙂")] == [3, 4, 4, 1, 1, 2]
    assert report.pad("中", 4) == "中  "
    assert report.pad("中", 4, at_right=True) == "  中"
    table = report.table(["x", "y"], [["中文", "a"], ["abc", "b"]])
    assert table.splitlines() == ["x     y", "中文  a", "abc   b"]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("ab cd", 4, "ab…"),
        ("中文字", 5, "中文…"),
        ("e\u0301e\u0301x", 3, "e\u0301e\u0301x"),
    ],
)
def test_shorten(text, width, expected):
    assert report.shorten(text, width) == expected
    assert report.cell_width(expected) <= width


def test_wrap_breaks_at_spaces_and_long_words_anywhere():
    assert report.wrap("one two three four five six", 20, max_lines=3) == ["one two three four", "five six"]
    assert report.wrap("", 20, max_lines=3) == []
    assert report.wrap("a " + "x" * 30, 20, max_lines=3) == ["a " + "x" * 18, "x" * 12]
    lines = report.wrap("中" * 50, 20, max_lines=3)
    assert lines == ["中" * 10, "中" * 10, "中" * 9 + "…"]
    words = " ".join(["word"] * 30)
    assert report.wrap(words, 24, max_lines=2) == ["word word word word word", "word word word word wor…"]


def hit(**more):
    values = {"doc_id": "d1", "score": 0.5, "rank": 1, "title": "", "text": "some text", "lang": "en"}
    return Hit(**values | more)


def test_hits_show_the_legs_that_they_come_from():
    hits = [
        hit(dense_score=0.9, dense_rank=1, bm25_score=12.3456, bm25_rank=2),
        hit(doc_id="longer", rank=2, title="Title", bm25_score=1.0, bm25_rank=3),
    ]
    assert report.format_hits(hits).splitlines() == [
        "1  d1      [en]  0.5000  dense 0.900 (#1)  bm25 12.346 (#2)",
        "   some text",
        "2  longer  [en]  0.5000                    bm25 1.000 (#3)",
        "   Title",
        "   some text",
    ]


def test_a_single_legs_score_is_shown_once():
    assert report.format_hits([hit(dense_score=0.5, dense_rank=1)]).splitlines()[0] == "1  d1  [en]  0.5000"


def test_texts_take_one_line_or_some_of_the_terminals_width():
    long = hit(text="word " * 200)
    assert len(report.format_hits([long]).splitlines()) == 2
    lines = report.format_hits([long], width=40).splitlines()
    assert len(lines) == 4 and max(map(len, lines[1:])) <= 40
    assert all(line.startswith("   word") for line in lines[1:])


def test_documents_do_not_take_over_the_terminal():
    text = report.format_hits([hit(doc_id="a\x1b[2J", title="t\n\x9b1m", text="x\r\n\x07y")])
    assert text.splitlines() == ["1  a\ufffd[2J  [en]  0.5000", "   t \ufffd1m", "   x \ufffdy"]


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [(0, "row", "0 rows"), (1, "query", "1 query"), (1234, "query", "1,234 queries"), (2, "file", "2 files")],
)
def test_count(number, noun, expected):
    assert report.count(number, noun) == expected


@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (12_345_678_901, "12.3 GB"),
    ],
)
def test_size(n_bytes, expected):
    assert report.size(n_bytes) == expected


def test_errors_of_the_system_say_what_to_do():
    full = OSError(errno.ENOSPC, "No space left on device", "/a/b")
    assert report.describe(full) == (
        "No space left on device (/a/b): free some space and run the same command again."
    )
    assert report.describe(PermissionError(13, "Permission denied", "/a/b")).startswith(
        "Cannot use /a/b: Permission denied. Check that its folder exists"
    )
    assert report.describe(OSError()) == "Reading or writing failed: OSError."


def stream(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


@pytest.mark.parametrize(
    ("encoding", "text", "json"),
    [
        ("utf-8", "ก é", '"ก é"'),
        ("ascii", "ก é", '"ก é"'),  # taken for a system that knows nothing of encodings
        ("latin-1", "\\u0e01 é", '"\\u0e01 \\u00e9"'),
    ],
)
def test_every_character_can_be_written(monkeypatch, encoding, text, json):
    written = stream(encoding)
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setattr(sys, "stderr", None)
    report.write_any_text()
    report.write("ก é")
    report.write_json("ก é")
    report.tell("nobody hears this")
    assert written.buffer.getvalue().decode(written.encoding).splitlines() == [text, json]


def test_without_stdout_nothing_is_written(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    report.write("x")
    report.abandon_stdout()
    assert report.terminal_width() is None


def test_warnings_go_to_what_stderr_is_now(capsys):
    logger = logging.getLogger("test_report")
    logger.addHandler(report.ToStderr())
    logger.warning("a %s", "word")
    assert capsys.readouterr().err == "a word\n"


def test_scores_of_one_run():
    results = {"x/a.trec": {"queries": 12, "mean": {"P@1": 0.5}}}
    assert report.format_scores(results, ["P@1"]).splitlines() == [
        "run     queries     P@1",
        "a.trec       12  0.5000",
    ]
