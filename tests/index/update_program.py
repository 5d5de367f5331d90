"""Add, delete, compact, search, be killed, in any order, and compare with a dictionary after each step.

Run as `update_program.py FOLDER EXAMPLES STEPS`. A change that is killed runs in a process of its own (a
fork), ended by SIGKILL before one of its changes of the file system.
"""

import itertools
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import build_program
import kill_program
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mretrieve import files
from mretrieve.index.open import open_index
from mretrieve.index.update import Parts, add_documents, compact, delete_documents
from mretrieve.index.verify import verify_index
from mretrieve.types import Document

FOLDER = Path(sys.argv[1])
LANGS = ("en", "ar", "th")
IDS = st.sets(st.integers(0, 11), min_size=1, max_size=6)
KILLED_BEFORE = st.integers(0, 180)  # an addition makes some 170 changes of the file system

encode = build_program.FakeEncoder()


class JoinedSearcher(build_program.FakeSearcher):
    """Reads several folders as one, as Lucene's reader does."""

    def __init__(self, path, lang):
        folders = [path] if isinstance(path, Path) else path
        files = [folder / f"{lang}.jsonl" for folder in folders]
        self.texts = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]

    def close(self):
        pass


def parts():
    return Parts(encode, build_program.make_lexical())


def count_lexical(folder, lang):
    return len(JoinedSearcher(folder, lang).texts)


def lang_of(doc_id):
    return LANGS[int(doc_id) % 3]


def add(path, new):
    documents = [Document(doc_id, text, lang=lang_of(doc_id)) for doc_id, text in new.items()]
    add_documents(documents, path, source=json.dumps(new), parts=parts())


def opened(path):
    return open_index(path, open_lexical=JoinedSearcher)


def check(index, expected):
    """Documents, vectors and words hold just what they should, each under the same rows."""
    documents = index.documents.get(range(len(index.documents)))
    assert {one.doc_id: one.text for one in documents} == expected
    assert len(documents) == len(expected) == index.manifest.documents == len(index.dense)
    vectors = encode([one.text for one in documents])
    scores, rows = index.dense.search(vectors, len(documents))
    assert rows[:, 0].tolist() == list(range(len(documents)))
    assert np.sort(rows, axis=1).tolist() == [list(range(len(documents)))] * len(documents)
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-5)
    assert index.dense.search(vectors[:1], 2)[1][0].tolist() == rows[0, :2].tolist()
    assert set(index.lexical_languages) == set(map(lang_of, expected))
    for lang in index.lexical_languages:
        wanted = index.rows_of(lang)
        assert wanted.tolist() == [row for row, one in enumerate(documents) if one.lang == lang]
        among = index.dense.search(vectors[:1], 3, among=wanted)[1][0]
        assert among.tolist() == [row for row in rows[0].tolist() if row in wanted][:3]
        for number, row in enumerate(wanted.tolist()):
            text = documents[row].text
            found, _ = index.lexical(lang).search(text, 1)
            assert found.tolist() == [number]
            assert index.documents.get([row])[0].text == text


class Changes(RuleBasedStateMachine):
    """An index, and what it should hold."""

    numbers = itertools.count()

    @initialize()
    def build(self):
        self.place = FOLDER / str(next(self.numbers))
        self.place.mkdir()
        self.path = self.place / "idx"
        self.versions = itertools.count()
        self.readers = []
        plan = build_program.make_plan(shard_size=4)
        self.expected = self.texts_of(range(8))
        documents = [Document(doc_id, text, lang=lang_of(doc_id)) for doc_id, text in self.expected.items()]
        build_program.build(
            documents, self.path, plan=plan, encode=encode, lexical=build_program.make_lexical()
        )

    def teardown(self):
        for index, expected in self.readers:
            check(index, expected)
            index.close()
        shutil.rmtree(self.place)

    def texts_of(self, numbers):
        return {str(number): f"document {number} version-{next(self.versions)}" for number in numbers}

    @rule(numbers=IDS)
    def add(self, numbers):
        new = self.texts_of(sorted(numbers))
        add(self.path, new)
        self.expected |= new

    @rule(numbers=IDS)
    def delete(self, numbers):
        doc_ids = {str(number) for number in numbers}
        if self.expected.keys() - doc_ids:
            delete_documents(doc_ids, self.path, ignore_missing=True)
            self.expected = {k: v for k, v in self.expected.items() if k not in doc_ids}

    @rule()
    def compact(self):
        compact(self.path, factory="Flat", parts=parts())
        assert files.files_below(self.path) == sorted([*opened(self.path).manifest.files, "manifest.json"])

    @precondition(lambda self: len(self.readers) < 2)
    @rule()
    def keep_open(self):
        index = opened(self.path)
        index.open_all()
        self.readers.append((index, dict(self.expected)))

    @rule(numbers=IDS, nth=KILLED_BEFORE, again=st.booleans())
    def killed_while_adding(self, numbers, nth, again):
        new = self.texts_of(sorted(numbers))
        self.kill(lambda: add(self.path, new), nth, self.expected | new, again)

    @rule(numbers=IDS, nth=KILLED_BEFORE, again=st.booleans())
    def killed_while_deleting(self, numbers, nth, again):
        doc_ids = {str(number) for number in numbers}
        left = {k: v for k, v in self.expected.items() if k not in doc_ids}
        if left:
            self.kill(lambda: delete_documents(doc_ids, self.path, ignore_missing=True), nth, left, again)

    @rule(nth=KILLED_BEFORE, again=st.booleans())
    def killed_while_compacting(self, nth, again):
        self.kill(lambda: compact(self.path, factory="Flat", parts=parts()), nth, dict(self.expected), again)

    def kill(self, change, nth, changed, again):
        """Afterwards the index is the old or the new; asked for again, it is the new."""

        def change_and_die():
            kill_program.kill_before(nth)
            change()

        killed = kill_program.in_fork(change_and_die)
        if not killed:
            self.expected = changed
        elif again:
            change()
            self.expected = changed
        else:
            index = opened(self.path)
            held = index.documents.get(range(len(index.documents)))
            found = {one.doc_id: one.text for one in held}
            assert found in (self.expected, changed)
            self.expected = found

    @invariant()
    def holds_what_it_should(self):
        verify_index(self.path, count_lexical=count_lexical)
        check(opened(self.path), self.expected)


def main():
    n_examples, n_steps = map(int, sys.argv[2:])
    chosen = settings(
        max_examples=n_examples,
        stateful_step_count=n_steps,
        deadline=None,
        database=None,
        derandomize=n_examples < 100,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Changes, settings=chosen)
    sys.stdout.write(f"{next(Changes.numbers)}\n")


if __name__ == "__main__":
    main()
