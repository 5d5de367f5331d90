"""Many documents handed to Lucene at once, by Lucene itself."""

import subprocess
import sys
import threading

import pytest

from mretrieve.index import lucene, lucene_java
from mretrieve.index.analyzers import java_pieces_analyzer
from mretrieve.index.jvm import JAVA_LOCK, start_jvm
from mretrieve.index.lucene import LexicalIndex, LexicalWriter
from mretrieve.index.lucene_batch import batch_adder


@pytest.fixture
def opened(tmp_path):
    """A function that opens a writer and gives what adds documents of some fields, and a count of them."""
    start_jvm()
    ends = []

    def open_one(*names, folder="one"):
        with JAVA_LOCK:
            directory = lucene_java.open_directory(tmp_path / folder)
            writer = lucene_java.open_writer(directory, java_pieces_analyzer())
            add = batch_adder(writer, *lucene_java.reusable_document(*names))

        def count():
            writer.close()
            with JAVA_LOCK:
                return lucene_java.open_reader(directory).maxDoc()

        ends.append(directory)
        return add, count

    yield open_one
    for directory in ends:
        directory.close()


@pytest.mark.parametrize("names", [("contents",), ("contents", "pieces"), ("a", "b", "c")])
def test_each_row_is_a_document(opened, names):
    add, count = opened(*names)
    add([[f"{name} {number}" for name in names] for number in range(700)])
    add([])
    add([["same"] * len(names)])
    assert count() == 701


def test_rows_of_another_length_and_half_characters_are_refused(opened):
    from jnius import JavaException

    add, count = opened("contents", "pieces")
    with pytest.raises(JavaException, match="length 2"):
        add([["only one"]])
    with pytest.raises(UnicodeEncodeError):
        add([["whole", "whole"], ["half \ud83d", "whole"]])
    assert count() == 0


def test_two_writers_in_two_threads_do_not_meet(opened):
    both = [opened("contents", folder=name) for name in ("one", "two")]

    def work(add, n):
        start_jvm()
        for _ in range(n):
            add([["some words"]] * 50)

    threads = [
        threading.Thread(target=work, args=(add, n)) for (add, _), n in zip(both, (30, 20), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [count() for _, count in both] == [1500, 1000]


def test_a_writer_cuts_long_batches_and_keeps_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(lucene, "_AT_ONCE", 40)
    texts = [f"number{number} \ud83d" if number % 7 == 0 else f"number{number}" for number in range(300)]
    with LexicalWriter(tmp_path / "en", "en") as writer:
        writer.add(texts[:200])
        writer.add([])
        writer.add(texts[200:])
        assert len(writer) == 300
    with LexicalIndex(tmp_path / "en", "en") as index:
        assert len(index) == 300
        for row in (0, 1, 7, 199, 200, 299):
            assert index.search(f"number{row}", 5)[0].tolist() == [row]


def test_an_error_in_lucene_comes_out_of_a_later_call(tmp_path, monkeypatch):
    writer = LexicalWriter(tmp_path / "en", "en")

    def fail(rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_add", fail)
    with pytest.raises(OSError, match="No space left"):
        for _ in range(10):
            writer.add(["one"])
        writer.close()
    writer.close()
    assert not (tmp_path / "en" / lucene.ANALYZER_FILE).exists()
    with pytest.raises(ValueError, match="is closed"):
        writer.add(["two"])


@pytest.mark.parametrize(("first", "quickly"), [("LexicalWriter", True), ("start_jvm", False)])
def test_only_who_begins_by_writing_has_java_compile_quickly(first, quickly, tmp_path):
    """And what was written is found, in the same process."""
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from mretrieve.index.jvm import start_jvm\n"
        "from mretrieve.index.lucene import LexicalIndex, LexicalWriter\n"
        f"if {first!r} == 'start_jvm':\n    start_jvm()\n"
        f"path = Path({str(tmp_path / 'en')!r})\n"
        "with LexicalWriter(path, 'en') as writer:\n    writer.add(['one fox', 'two dogs'])\n"
        "assert LexicalIndex(path, 'en').search('dog', 1)[0].tolist() == [1]\n"
        "import jnius_config\nprint('-XX:TieredStopAtLevel=1' in jnius_config.get_options())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{quickly}\n"), done.stderr
