import errno
import math
import os
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest

from mretrieve.errors import InputError
from mretrieve.index import lucene_java
from mretrieve.index.lucene import ANALYZER_FILE, LexicalIndex, LexicalWriter


def build(path, lang, texts, **options):
    with LexicalWriter(path, lang, **options) as writer:
        writer.add(texts)
    options.pop("terms", None)  # the index knows
    return LexicalIndex(path, lang, **options)


def test_scores_by_hand(tmp_path):
    texts = ["river bank", "river river delta", "mountain"]
    lengths, average = [2, 3, 1], 2

    def bm25(count, length, n_containing, k1=0.9, b=0.4):
        idf = math.log(1 + (3 - n_containing + 0.5) / (n_containing + 0.5))
        return idf * count / (count + k1 * (1 - b + b * length / average))

    with build(tmp_path / "en", "en", texts) as index:
        rows, scores = index.search("River, bank!", top_k=10)
    expected = [
        bm25(1, lengths[0], 2) + bm25(1, lengths[0], 1),
        bm25(2, lengths[1], 2),
    ]
    assert rows.tolist() == [0, 1]
    assert scores.tolist() == pytest.approx(expected, rel=1e-6)
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)

    with LexicalIndex(tmp_path / "en", "en", k1=2, b=0) as index:
        _, scores = index.search("bank", top_k=10)
        assert scores.tolist() == pytest.approx([bm25(1, 2, 1, k1=2, b=0)], rel=1e-6)
        twice = index.search("bank bank", top_k=10)[1]
        assert twice.tolist() == pytest.approx(2 * scores, rel=1e-6)


def test_rows_are_the_order_of_insertion_over_many_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(lucene_java, "_BUFFER_MB", 0.1)
    texts = [f"all number{row}" for row in range(4000)]
    with LexicalWriter(tmp_path / "en", "en") as writer:
        for start in range(0, len(texts), 300):
            writer.add(texts[start : start + 300])
            n_segments = len(list((tmp_path / "en").glob("*.cfs")))
        assert len(writer) == 4000
    assert n_segments > 1
    assert len(list((tmp_path / "en").glob("*.si"))) == 1
    with LexicalIndex(tmp_path / "en", "en") as index:
        assert len(index) == 4000
        asked = [0, 1, 299, 300, 2345, 3999]
        assert [index.search(f"number{row}", 5)[0].tolist() for row in asked] == [[row] for row in asked]
        rows, scores = index.search("all", top_k=3999)  # all score the same
        assert rows.tolist() == list(range(3999))
        assert len(set(scores.tolist())) == 1


def test_many_queries_are_as_each_alone(tmp_path):
    with build(tmp_path / "en", "en", ["one two", "two three", "three four"]) as index:
        together = index.search_many(["two", "", "three four"], top_k=2)
        assert [rows.tolist() for rows, _ in together] == [[0, 1], [], [2, 1]]
        assert index.search_many([], top_k=2) == []


def test_documents_without_terms_keep_their_rows(tmp_path):
    with build(tmp_path / "en", "en", ["", "the", "fox", "?!"]) as index:
        assert len(index) == 4
        assert index.search("fox", top_k=10)[0].tolist() == [2]


@pytest.mark.parametrize("query", ["", " \n", "the of", "?!", "absent"])
def test_queries_without_a_term_that_occurs_find_nothing(query, tmp_path):
    with build(tmp_path / "en", "en", ["the fox of the woods"]) as index:
        rows, scores = index.search(query, top_k=10)
    assert (rows.shape, rows.dtype) == ((0,), np.int64)
    assert (scores.shape, scores.dtype) == ((0,), np.float32)


def test_queries_may_be_long(tmp_path):
    words = [f"word{number}" for number in range(5000)]
    with build(tmp_path / "en", "en", [*words, " ".join(words)]) as index:
        rows, _ = index.search(" ".join(words), top_k=3)
        assert rows.tolist() == [5000, 0, 1]
        assert len(index.search(" ".join(words), top_k=10_000)[0]) == 5001


def test_texts_may_hold_any_character(tmp_path):
    texts = ["broken \ud83d half", "smile \U0001f600 \U00020000", "zero\x00byte", "\udc00"]
    with build(tmp_path / "zh", "zh", texts) as index:
        assert index.search("broken \ud800", top_k=4)[0].tolist() == [0]
        assert index.search("\U00020000", top_k=4)[0].tolist() == [1]
        assert index.search("byte\x00", top_k=4)[0].tolist() == [2]


def test_an_empty_index_is_searched(tmp_path):
    with build(tmp_path / "en", "en", []) as index:
        assert len(index) == 0
        assert index.search("fox", top_k=10)[0].tolist() == []


def test_languages_without_an_analyzer_are_cut_by_the_caller(tmp_path):
    def cut(texts):
        return [[piece for word in text.split() for piece in ("▁" + word[:3], word[3:])] for text in texts]

    with build(tmp_path / "sw", "sw", ["Habari yako", "habani"], cut=cut) as index:
        assert index.search("HABARI", top_k=2)[0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="goes by pieces .* so they should be given"):
        build(tmp_path / "yo", "yo", ["Báwo ni"])


def three_letters(texts):
    return [["▁" + word[:3] for word in text.split()] for text in texts]


@pytest.mark.parametrize("lang", ["en", "th"])
def test_scores_of_both_kinds_of_terms_are_their_sum(lang, tmp_path):
    texts = ["river bank", "the rivers of a delta", "ธนาคาร riverside แม่น้ำ", "mountain", "แม่น้ำ banker"]
    found = {}
    for terms in ("analyzer", "pieces", "both"):
        with build(tmp_path / terms, lang, texts, cut=three_letters, terms=terms) as index:
            assert len(index) == 5 and index.analyzer.terms == terms
            found[terms] = [
                dict(zip(*(one.tolist() for one in pair), strict=True))
                for pair in index.search_many(["river banks", "แม่น้ำ", "", "mou"], top_k=5)
            ]
    for own, pieces, both in zip(*found.values(), strict=True):
        expected = {row: own.get(row, 0) + pieces.get(row, 0) for row in own.keys() | pieces.keys()}
        assert both == pytest.approx(expected, rel=1e-6)
        assert list(both.values()) == sorted(both.values(), reverse=True)
    assert found["both"][2] == {} and found["both"][3] == found["pieces"][3] != {}
    assert found["both"][0] != found["analyzer"][0]


def test_several_folders_should_be_of_the_same_terms(tmp_path):
    for name, terms in (("a", "both"), ("b", "both"), ("c", "analyzer")):
        build(tmp_path / name, "en", ["river bank"], cut=three_letters, terms=terms).close()
    paths = [tmp_path / "a", tmp_path / "b"]
    with LexicalIndex(paths, "en", cut=three_letters) as index:
        assert index.search("riverside", top_k=3)[0].tolist() == [0, 1]
    with pytest.raises(
        InputError, match="c was written with the analyzer anserini:.*, but .*a with .*pieces"
    ):
        LexicalIndex([tmp_path / "a", tmp_path / "c"], "en", cut=three_letters)


@pytest.fixture
def restless_threads():
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_search_two_indexes_at_once(tmp_path, restless_threads):
    texts = [f"fox {row} " + "word " * (row % 7) for row in range(500)]
    both = {"cut": three_letters, "terms": "both"}
    with build(tmp_path / "en", "en", texts) as a, build(tmp_path / "de", "de", texts[::-1], **both) as b:
        queries = [f"fox {row} word" for row in range(200)]
        expected = {index: [index.search(query, 10) for query in queries] for index in (a, b)}
        wrong = []

        def search(index):
            for query, (rows, scores) in zip(queries, expected[index], strict=True):
                found = index.search(query, 10)
                if found[0].tolist() != rows.tolist() or found[1].tolist() != scores.tolist():
                    wrong.append(query)

        threads = [threading.Thread(target=search, args=(index,)) for index in (a, b) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_threads_write_four_indexes_at_once(tmp_path, restless_threads):
    texts = {lang: [f"{lang} {row}" for row in range(2000)] for lang in ("en", "de", "fr", "es")}
    threads = [
        threading.Thread(target=lambda lang=lang: build(tmp_path / lang, lang, texts[lang]).close())
        for lang in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lang in texts:
        with LexicalIndex(tmp_path / lang, lang) as index:
            assert len(index) == 2000
            assert index.search("1234", top_k=2)[0].tolist() == [1234]


def test_a_folder_is_written_over_and_nothing_else_stays(tmp_path):
    path = tmp_path / "en"
    build(path, "en", ["old one", "old two"]).close()
    with build(path, "en", ["new"]) as index:
        assert len(index) == 1
    kinds = Counter(file.suffix or file.name.partition("_")[0] for file in path.iterdir())
    assert kinds == {".cfe": 1, ".cfs": 1, ".si": 1, "segments": 1, ".json": 1}


def test_after_an_error_the_index_is_given_up(tmp_path):
    with pytest.raises(RuntimeError, match="source broke"), LexicalWriter(tmp_path / "en", "en") as writer:
        writer.add(["one"])
        raise RuntimeError("source broke")
    with pytest.raises(InputError, match="holds no BM25 index"):
        LexicalIndex(tmp_path / "en", "en")
    with pytest.raises(ValueError, match="is closed"):
        writer.add(["two"])
    build(tmp_path / "en", "en", ["again"]).close()


def test_an_error_in_the_texts_gives_it_up_too(tmp_path):
    writer = LexicalWriter(tmp_path / "th", "th")
    with pytest.raises(TypeError):
        writer.add(["one", None])
    writer.close()
    assert not (tmp_path / "th" / ANALYZER_FILE).exists()


def test_a_full_disk_is_an_os_error(tmp_path):
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from mretrieve.index.lucene import LexicalWriter\n"
        f"writer = LexicalWriter(Path({str(tmp_path / 'en')!r}), 'en')\n"
        "writer.add([f'word{n}' for n in range(20_000)])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    writer.close()\nexcept OSError as error:\n    print(error.errno, error.filename)\n"
        "writer.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{errno.EFBIG} {tmp_path / 'en'}\n"), done.stderr


@pytest.mark.skipif(os.getuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_may_not_be_written_is_an_os_error(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(OSError, match="denied"):
        LexicalWriter(tmp_path / "en", "en")


def test_what_is_no_index_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere holds no BM25 index of Lucene: it has no analyzer\.json"):
        LexicalIndex(tmp_path / "nowhere", "en")


def break_segments(path):
    next(path.glob("segments_*")).write_bytes(b"garbage")


def remove_segments(path):
    next(path.glob("segments_*")).unlink()


def cut_off(path):
    file = next(path.glob("*.cfs"))
    file.write_bytes(file.read_bytes()[:-20])


def remove_postings(path):
    next(path.glob("*.cfs")).unlink()


@pytest.mark.parametrize("damage", [break_segments, remove_segments, cut_off, remove_postings])
def test_a_damaged_index_is_named(damage, tmp_path):
    build(tmp_path / "en", "en", ["fox"]).close()
    damage(tmp_path / "en")
    with pytest.raises(InputError, match=r"en cannot be read \(.*\). Build the index again"):
        LexicalIndex(tmp_path / "en", "en")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_a_damaged_note_of_the_analyzer_is_named(content, tmp_path):
    build(tmp_path / "en", "en", ["fox"]).close()
    (tmp_path / "en" / ANALYZER_FILE).write_bytes(content)
    with pytest.raises(InputError, match=r"analyzer\.json cannot be read"):
        LexicalIndex(tmp_path / "en", "en")


def test_another_analyzer_than_that_of_the_index_is_refused(tmp_path):
    build(tmp_path / "x", "ro", ["vulpe"]).close()
    with pytest.raises(InputError) as error:
        LexicalIndex(tmp_path / "x", "th")
    assert "was written with the analyzer lucene:org.apache.lucene.analysis.ro.RomanianAnalyzer" in str(
        error.value
    )
    assert "queries in th are read with segment:character-runs-1. Build the index again." in str(error.value)


@pytest.mark.parametrize("top_k", [0, -1])
def test_nothing_wanted_is_an_error(top_k, tmp_path):
    with build(tmp_path / "en", "en", ["fox"]) as index, pytest.raises(InputError, match="at least 1, got"):
        index.search("fox", top_k)


def test_a_closed_index_says_so(tmp_path):
    index = build(tmp_path / "en", "en", ["fox"])
    index.close()
    index.close()
    with pytest.raises(ValueError, match="is closed"):
        index.search("fox", top_k=1)


def test_an_open_index_outlives_its_folder(tmp_path):
    index = build(tmp_path / "en", "en", ["fox"])
    (tmp_path / "en").rename(tmp_path / "old")
    for file in (tmp_path / "old").iterdir():
        file.unlink()
    assert index.search("fox", top_k=1)[0].tolist() == [0]
    index.close()
