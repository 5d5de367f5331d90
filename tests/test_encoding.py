import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mretrieve import encoding
from mretrieve.encode.encoder import Encoder
from mretrieve.encoding import encode_to_file
from mretrieve.errors import InputError
from tests.conftest import write_jsonl

TEXTS = [f"{word} {number}" for number, word in enumerate(["cat", "dog", "tree", "river", "house"] * 2)]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(encoding, "TEXTS_AT_ONCE", 4)


@pytest.fixture
def source(tmp_path):
    return write_jsonl(tmp_path / "a.jsonl", [{"_id": f"d{n}", "text": text} for n, text in enumerate(TEXTS)])


@pytest.fixture
def encoder(model):
    """The model, counting what it encodes, and stopping where it is told to."""

    class Counting(Encoder):
        calls = ()
        stop_at = None

        def encode_documents(self, texts, **options):
            if len(self.calls) == self.stop_at:
                raise KeyboardInterrupt
            self.calls += (tuple(texts),)
            return super().encode_documents(texts, **options)

    return Counting(str(model))


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_vectors_and_ids(tmp_path, source, encoder):
    stages = []
    shape = encode_to_file(
        encoder, source, tmp_path / "v.npy", queries=False, on_progress=lambda *stage: stages.append(stage)
    )
    assert shape == (10, 32)
    vectors = np.load(tmp_path / "v.npy")
    assert (vectors.dtype, vectors.shape) == (np.float32, (10, 32))
    np.testing.assert_allclose(vectors, Encoder.encode_documents(encoder, TEXTS), atol=1e-5)
    assert (tmp_path / "v.ids.txt").read_text().splitlines() == [f"d{n}" for n in range(10)]
    assert names(tmp_path) == ["a.jsonl", "v.ids.txt", "v.npy"]
    assert stages == [("texts", 10, 10), *(("vectors", done, 10) for done in (0, 4, 8, 10))]


def test_queries_have_their_own_prompt_and_source(tmp_path, encoder):
    encoder.query_prefix = "the "
    (tmp_path / "q.tsv").write_text("q1\tcat\nq2\tdog\n")
    encode_to_file(encoder, tmp_path / "q.tsv", tmp_path / "v.npy", queries=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "v.npy"), Encoder.encode_documents(encoder, ["the cat", "the dog"]), atol=1e-5
    )


def stopped(encoder, source, output, *, after, **options):
    encoder.calls, encoder.stop_at = (), after
    with pytest.raises(KeyboardInterrupt):
        encode_to_file(encoder, source, output, queries=False, **options)
    encoder.calls, encoder.stop_at = (), None


@pytest.mark.parametrize("after", [0, 1, 2])
def test_stopped_work_goes_on(tmp_path, source, encoder, after):
    output = tmp_path / "v.npy"
    stopped(encoder, source, output, after=after)
    assert not output.exists()
    with open(tmp_path / "v.npy.building", "ab") as file:
        file.write(b"the half of a vector")
    encode_to_file(encoder, source, output, queries=False)
    assert len(encoder.calls) == 3 - after, "a chunk was encoded twice"
    np.testing.assert_allclose(np.load(output), Encoder.encode_documents(encoder, TEXTS), atol=1e-5)
    assert names(tmp_path) == ["a.jsonl", "v.ids.txt", "v.npy"]


@pytest.mark.parametrize("change", ["source", "prompt", "model", "progress", "vectors"])
def test_changed_work_starts_afresh(tmp_path, source, encoder, change):
    output = tmp_path / "v.npy"
    stopped(encoder, source, output, after=2)
    progress = tmp_path / "v.npy.building.json"
    if change == "source":
        write_jsonl(source, [{"_id": "d0", "text": "cat"}])
    elif change == "prompt":
        encoder.document_prefix = "other "
    elif change == "model":
        encoder.__dict__["fingerprint"] = "other"
    elif change == "progress":
        progress.write_text("[1]")
    else:
        (tmp_path / "v.npy.building").write_bytes(b"cut off")
    n_texts, _ = encode_to_file(encoder, source, output, queries=False)
    assert sum(map(len, encoder.calls)) == n_texts == len(np.load(output))


def test_vectors_of_other_work_are_never_taken_for_ones_own(tmp_path, source, encoder, monkeypatch):
    output = tmp_path / "v.npy"
    stopped(encoder, source, output, after=1)

    def stop(path):
        raise KeyboardInterrupt

    encoder.document_prefix = "other "
    with monkeypatch.context() as patch:
        patch.setattr(encoding.files, "atomic_file", stop)  # after the vectors, before they count as done
        stopped(encoder, source, output, after=3)
    encoder.document_prefix = ""
    encode_to_file(encoder, source, output, queries=False)
    np.testing.assert_allclose(np.load(output), Encoder.encode_documents(encoder, TEXTS), atol=1e-5)


def test_killed_in_the_last_moment_it_ends(tmp_path, source, encoder, monkeypatch):
    replace = os.replace

    def stop(old, new):
        if str(new).endswith("v.npy"):
            raise KeyboardInterrupt
        replace(old, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", stop)
        encode_to_file(encoder, source, tmp_path / "v.npy", queries=False)
    encoder.calls = ()
    encode_to_file(encoder, source, tmp_path / "v.npy", queries=False)
    assert encoder.calls == ()
    assert np.load(tmp_path / "v.npy").shape == (10, 32)


def test_what_is_there_is_kept(tmp_path, source, encoder):
    for name in ("v.npy", "v.ids.txt"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(InputError, match=rf"{name} exists. Choose another name, or replace it with"):
            encode_to_file(encoder, source, tmp_path / "v.npy", queries=False)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    encode_to_file(encoder, source, tmp_path / "v.npy", queries=False)
    stopped(encoder, source, tmp_path / "v.npy", after=1, overwrite=True)
    assert len(np.load(tmp_path / "v.npy")) == 10, "the old file has to serve until the new one is whole"
    encode_to_file(encoder, source, tmp_path / "v.npy", queries=False, overwrite=True)
    assert names(tmp_path) == ["a.jsonl", "v.ids.txt", "v.npy"]


def test_ids_that_a_line_cannot_hold(tmp_path, encoder):
    source = write_jsonl(tmp_path / "a.jsonl", [{"_id": "a\nb", "text": "cat"}])
    with pytest.raises(InputError, match=r"The id 'a\\nb' holds a line break"):
        encode_to_file(encoder, source, tmp_path / "v.npy", queries=False)


def test_a_broken_line_shows_before_anything_is_encoded(tmp_path, source, encoder):
    with source.open("a") as file:
        file.write("broken\n")
    with pytest.raises(InputError, match=r"a\.jsonl:11: "):
        encode_to_file(encoder, source, tmp_path / "v.npy", queries=False)
    assert encoder.calls == () and names(tmp_path) == ["a.jsonl"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from mretrieve import encoding
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
encoding.TEXTS_AT_ONCE = 4
encoder = Encoder(sys.argv[1])
encoder.encode_documents(["load the model"])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), int(sys.argv[4])))
try:
    encoding.encode_to_file(encoder, sys.argv[2], Path(sys.argv[3]), queries=False)
except InputError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")
def test_a_full_disk_is_told_and_the_work_goes_on(tmp_path, source, encoder):
    output = tmp_path / "v.npy"
    command = [sys.executable, "-c", FULL_DISK, encoder.name, str(source), str(output)]
    room = 128 + 6 * 4 * 32  # for six of ten vectors
    done = subprocess.run([*command, str(room)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"No space left for {output} ") and done.stderr.count("\n") == 1
    assert json.loads((tmp_path / "v.npy.building.json").read_bytes())["done"] == 4
    encode_to_file(encoder, source, output, queries=False)
    assert len(encoder.calls) == 2
    np.testing.assert_allclose(np.load(output), Encoder.encode_documents(encoder, TEXTS), atol=1e-5)
