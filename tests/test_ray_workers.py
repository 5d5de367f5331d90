import dataclasses
import functools
import http.server
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mretrieve import arguments, ray_pool, ray_workers
from mretrieve.errors import InputError
from mretrieve.index.manifest import EncoderIdentity
from mretrieve.index.open import verify
from mretrieve.index.plan import BuildPlan
from mretrieve.indexing import build_index
from mretrieve.rank.retriever import Retriever
from mretrieve.ray_workers import RayWorkers

SHARD = 16  # documents: the sample's 300 are 19 shards
AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
QUERIES = ["Wer druckte die Bibel?", "when was the plague", "Где растёт лес?"]

# The command line with small shards, which ends itself by a signal once some vectors are on the disk.
PROGRAM = """
import functools, os, sys
import mretrieve.indexing, mretrieve.progress
from mretrieve.cli import main
from mretrieve.index.plan import BuildPlan

mretrieve.indexing.BuildPlan = functools.partial(BuildPlan, shard_size=16)
number, enough = int(sys.argv[1]), int(sys.argv[2])
lines = mretrieve.progress._lines

def ending():
    tell = lines()
    def on_progress(stage, done, total):
        tell(stage, done, total)
        if stage == "vectors" and done >= enough:
            os.kill(os.getpid(), number)
    return on_progress

mretrieve.progress._lines = ending
sys.argv[1:3] = []
main()
"""

slow = pytest.mark.slow
posix = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at processes in /proc")


def marked(value):
    """Names by process id of all that were started with the environment variable MRETRIEVE_TEST=value."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MRETRIEVE_TEST={value}\0".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().decode().rstrip("\0")
        except OSError:
            continue  # it has ended, or is not ours
    found.pop(os.getpid(), None)
    return found


def wait_until(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "this has never come"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def workers():
    """Two workers of one core on this machine, which leave nothing behind."""
    if importlib.util.find_spec("ray") is None:  # imported only where it is made to be quiet
        pytest.skip("the package ray is not installed")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRETRIEVE_TEST", str(os.getpid()))
        patch.setattr(os, "cpu_count", lambda: 2)
        with RayWorkers(cores=1) as workers:
            assert workers.connect() == "cpu"
            folder = Path(workers._folder)
            assert folder.is_dir()
            yield workers
    assert "RAY_USAGE_STATS_ENABLED" not in os.environ
    wait_until(lambda: not marked(os.getpid()), seconds=20)  # Ray's agents alone would stay for a minute
    assert not folder.exists()
    assert signal.getsignal(signal.SIGTERM) == on_sigterm


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("mretrieve.indexing.BuildPlan", functools.partial(BuildPlan, shard_size=SHARD))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, model):
    """The sample, indexed by one process."""
    path = tmp_path_factory.mktemp("alone") / "idx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mretrieve.indexing.BuildPlan", functools.partial(BuildPlan, shard_size=SHARD))
        build_index("sample", path, model=str(model), device="cpu", lexical=False)
    return path


def vectors_of(path):
    import faiss

    index = faiss.read_index(str(path / "dense.faiss"))
    return index.reconstruct_n(0, index.ntotal)


def assert_same(path, other):
    """Two indexes differ in nothing but the time of their making and the last digits of vectors."""
    one, two = (json.loads((folder / "manifest.json").read_bytes()) for folder in (path, other))
    for manifest in (one, two):
        del manifest["built"]["at"], manifest["files"]["dense.faiss"]["sha256"], manifest["sha256"]
    assert one == two
    verify(path)
    np.testing.assert_allclose(vectors_of(path), vectors_of(other), rtol=0, atol=1e-5)
    hits = [[hit.doc_id for hit in Retriever(path).search(query)] for query in QUERIES]
    assert hits == [[hit.doc_id for hit in Retriever(other).search(query)] for query in QUERIES]


@slow
@posix
def test_many_workers_build_the_index_of_one_process(tmp_path, workers, alone, model, small_shards, capfd):
    told, seen = [], set()

    def on_progress(stage, done, total):
        told.append((stage, done, total))
        seen.update(pid for pid, name in marked(os.getpid()).items() if name.startswith("ray::_Worker"))

    build_index(
        "sample", tmp_path / "idx", model=str(model), device=workers, lexical=False, on_progress=on_progress
    )
    assert_same(tmp_path / "idx", alone)
    assert len(seen) == 2
    done = [done for stage, done, total in told if stage == "vectors" and total == 300]
    assert len(done) == 19 and done == sorted(done) and done[-1] == 300
    assert capfd.readouterr() == ("", "")


@slow
@posix
def test_a_killed_worker_loses_nothing(tmp_path, workers, alone, model, small_shards, caplog):
    caplog.set_level("DEBUG", "mretrieve.ray_pool")
    killed = []

    def on_progress(stage, done, total):
        if stage == "vectors" and not killed:  # most of its shards are still to come
            killed.append(next(r.args[1] for r in caplog.records if "is ready" in r.msg))
            os.kill(killed[0], signal.SIGKILL)

    build_index(
        "sample", tmp_path / "idx", model=str(model), device=workers, lexical=False, on_progress=on_progress
    )
    assert killed[0] not in marked(os.getpid())
    assert_same(tmp_path / "idx", alone)
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1 and told[0].startswith(f"A worker on {socket.gethostname()} has ended (")


@pytest.fixture
def short_folder():
    """For what a killed process leaves behind: the names of sockets have no room for `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        yield folder


@slow
@posix
def test_stopped_builds_go_on(tmp_path, workers, alone, model, small_shards, short_folder):
    address = workers._ray.get_runtime_context().gcs_address
    command = ["index", "sample", str(tmp_path / "idx")]
    options = ["--model", str(model), "--no-lexical", "--device", "cpu"]

    def start(number, enough, *more):
        environment = os.environ | {"MRETRIEVE_TEST": f"{tmp_path} {enough}", "TMPDIR": short_folder}
        environment |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # Ray's name for this machine is 127.0.0.1
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(int(number)), str(enough), *command, *options, *more],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        wait_until(lambda: not {*marked(f"{tmp_path} {enough}").values()} - AGENTS)
        for pid in marked(f"{tmp_path} {enough}"):  # which need a minute to see that all else was killed
            os.kill(pid, signal.SIGKILL)
        shards = {file.name: file.stat().st_mtime_ns for file in vectors.glob("*.npy")}
        assert enough <= SHARD * len(shards) < 300
        return done, shards

    vectors = tmp_path / "idx.building" / "vectors"
    killed, first = start(signal.SIGKILL, 4 * SHARD, "--ray")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    stopped, second = start(signal.SIGINT, 10 * SHARD, "--ray", address)
    assert (stopped.returncode, stopped.stdout) == (130, ""), stopped.stderr
    assert stopped.stderr.endswith("Stopped. The same command goes on from here.\n")
    assert "Traceback" not in stopped.stderr and "ray" not in stopped.stderr.replace(str(tmp_path), "")
    assert first.items() <= second.items()  # as they were: not made again

    calls = []
    build_index(
        "sample",
        tmp_path / "idx",
        model=str(model),
        device=workers,
        lexical=False,
        on_progress=lambda *told: calls.append(told),
    )
    assert [told for told in calls if told[0] == "vectors"][0] == ("vectors", SHARD * len(second), 300)
    assert_same(tmp_path / "idx", alone)


@pytest.fixture
def identity(model):
    from mretrieve.encode.encoder import Encoder

    return EncoderIdentity(str(model), Encoder(str(model)).fingerprint, 32)


@slow
def test_a_worker_with_other_weights_is_refused(workers, identity):
    other = dataclasses.replace(identity, fingerprint="0" * 64)
    with pytest.raises(InputError, match=f"The worker on {socket.gethostname()} has other weights of"):
        list(workers.encoding(other, 100).encode_shards([(0, ["a cat"])]))
    missing = dataclasses.replace(identity, model="/nowhere/model")
    with pytest.raises(InputError, match=f"The worker on {socket.gethostname()} cannot open the model. "):
        list(workers.encoding(missing, 100).encode_shards([(0, ["a cat"])]))


@slow
@pytest.mark.parametrize(
    ("fatal", "message"),
    [
        ("encode", "3 workers in turn have ended over the same documents .*--ray-cores"),
        ("open", "Ray's workers end before they are ready .* the model, and memory for it"),
    ],
)
def test_workers_that_end_again_and_again_stop_the_build(workers, identity, monkeypatch, fatal, message):
    class Mortal:
        def open(self, job, version):
            if fatal == "open":
                os._exit(1)
            return "here", 1

        def encode(self, texts):
            os._exit(1)

    monkeypatch.setattr(ray_pool, "_Worker", Mortal)
    with pytest.raises(InputError, match=message):
        list(workers.encoding(identity, 100).encode_shards([(0, ["a cat"])]))


@slow
def test_what_the_cluster_lacks(workers):
    nothing = EncoderIdentity("m", "f", 32)
    with pytest.raises(InputError, match="No machine of Ray's cluster .* 3 CPU cores .* --ray-cores"):
        RayWorkers(cores=3).encoding(nothing, 100)
    with pytest.raises(InputError, match="has no GPU. Use --device cpu"):
        RayWorkers(device="cuda").connect()
    assert list(workers.encoding(nothing, 100).encode_shards([])) == []


@pytest.mark.parametrize(
    "address", ["", "cluster", "host:port", "host:0", ":6379", "http://host:80", "docs/"]
)
def test_what_is_no_address(tmp_path, collection, command, address):
    outcome = command("index", collection, tmp_path / "idx", f"--ray={address}")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"Error: '{address}' is no address of Ray. Give HOST:PORT")
    assert list(tmp_path.iterdir()) == []


def test_where_no_ray_answers(tmp_path, collection, model, command, monkeypatch):
    monkeypatch.setattr(ray_workers, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(ray_workers, "_import_ray", lambda: pytest.fail("Ray was asked to connect"))
    handler = type("Other", (http.server.BaseHTTPRequestHandler,), {"log_message": lambda *_: None})
    here = ("127.0.0.1", 0)
    with socket.create_server(here) as silent, http.server.HTTPServer(here, handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        with socket.create_server(here) as closed:
            nobody = closed.getsockname()[1]
        for address, reason in (
            (f"127.0.0.1:{nobody}", "Connection refused"),
            (f"127.0.0.1:{silent.getsockname()[1]}", "timed out"),
            (f"ray://127.0.0.1:{web.server_port}", "something else than Ray answers there"),
            ("nowhere.invalid:6379", ""),
        ):
            outcome = command("index", collection, tmp_path / "idx", "--model", model, "--ray", address)
            assert outcome.status == 2
            assert outcome.stderr.startswith(f"Error: Ray ({address}) cannot be reached: {reason}")
            assert ("ray start --address" in outcome.stderr) is (not address.startswith("ray://"))
        web.shutdown()
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_without_ray(tmp_path, collection, model, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = command("index", collection, tmp_path / "idx", "--model", model, "--ray")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr == (
        "Error: --ray needs Ray, which is not installed. Run `pip install 'mretrieve[ray]'`.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--no-dense", "--ray"], "--no-dense wants none"),
        (["--ray-cores", "2"], "--ray-cores says how large"),
        (["--ray", "--ray-cores", "0"], "one CPU core at least, not 0"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, collection, command, options, message):
    outcome = command("index", collection, tmp_path / "idx", *options)
    assert outcome.status == 2
    assert message in outcome.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], "None False"),
        (["a", "b", "--ray"], "local False"),
        (["a", "b", "--ray", "--overwrite"], "local True"),
        (["a", "b", "--ray", "host:6379"], "host:6379 False"),
        (["--ray=auto", "a", "b"], "auto False"),
    ],
)
def test_ray_may_stand_without_an_address(given, expected):
    app = typer.Typer()

    @app.command(cls=arguments.MayStandAlone)
    def index(source: str, path: str, ray: arguments.Ray = None, overwrite: arguments.Overwrite = False):
        typer.echo(f"{ray} {overwrite}")

    assert CliRunner().invoke(app, given).stdout == f"{expected}\n"
