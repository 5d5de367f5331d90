"""`mretrieve serve` as a process of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from mretrieve.cli_serve import listen

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs the signals of POSIX")

SERVE = "from mretrieve import cli, cli_serve\ncli.app = cli_serve.app\ncli.main()"
READY = re.compile(r"Ready on (http://\S+) after [\d.]+ s\.")
SECONDS = 120


def start(*arguments):
    command = [sys.executable, "-c", SERVE, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refused(*arguments):
    """What stderr says of arguments that cannot be used."""
    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stdout) == (2, "")
    assert "Traceback" not in stderr
    return stderr


def call(url, body=None, key=None):
    """Status and content of a reply."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=SECONDS) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.fixture
def server():
    """A function that starts a server and gives its process and its address."""
    processes = []

    def run(*arguments):
        process = start("--port", 0, *arguments)
        processes.append(process)
        found = READY.search(process.stderr.readline())
        assert found, process.communicate()
        return process, found[1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


def test_it_serves_until_it_is_told_to_stop(server, model):
    process, url = server("--model", f"tiny={model}")
    assert url.startswith("http://127.0.0.1:")
    assert call(f"{url}/ready") == (200, {"status": "ready"})
    status, reply = call(f"{url}/v1/embeddings", {"model": "tiny", "input": ["the cat", "a dog"]})
    assert (status, len(reply["data"])) == (200, 2)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stdout, stderr) == (0, "", "")


def test_ctrl_c_is_no_failure(server, model):
    process, _ = server("--model", f"tiny={model}")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=SECONDS) == ("", "")
    assert process.returncode == 0


def test_a_public_address_with_a_key(server, model, tmp_path):
    key = "sk-0123456789abcdef"
    (tmp_path / "keys").write_text(f"{key}\n")
    process, url = server(
        "--model", f"tiny={model}", "--host", "0.0.0.0", "--api-key-file", tmp_path / "keys"
    )
    url = url.replace("0.0.0.0", "127.0.0.1")
    assert call(f"{url}/v1/models")[0] == 401
    assert call(f"{url}/v1/models", key=key)[0] == 200
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        connection.sendall(b"this is no HTTP\r\n\r\n")
        connection.recv(1000)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=SECONDS)
    assert key not in stderr and "Traceback" not in stderr


def test_it_finishes_what_it_took(server, e5_folder):
    process, url = server()
    texts = [f"The river rises in the mountains, part {n}." * 5 for n in range(20)]
    sending = subprocess.Popen(
        [
            sys.executable,
            "-c",
            POST,
            f"{url}/v1/embeddings",
            json.dumps({"model": "e5-small", "input": texts}),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + SECONDS
    while waiting(url) < 1:
        assert time.monotonic() < end and sending.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    stdout, _ = sending.communicate(timeout=SECONDS)
    assert stdout.strip() == "20"
    assert process.wait(SECONDS) == 0


POST = """
import json, sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"Content-Type": "application/json"})
print(len(json.load(urllib.request.urlopen(request))["data"]))
"""


def waiting(url):
    """Texts in the queue or at work."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=SECONDS) as reply:
        text = reply.read().decode()
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(("mretrieve_queue_texts{", "mretrieve_batch_texts_sum{"))
    )


def test_a_port_that_is_taken(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused("--port", port, "--model", f"tiny={model}")
    assert message == (
        f"Error: Cannot listen on http://127.0.0.1:{port}: Address already in use. Choose another --port.\n"
    )


def test_a_public_address_without_a_key():
    assert "say --insecure if that is what you want" in refused("--host", "0.0.0.0")


def test_a_model_that_does_not_exist():
    assert refused("--model", "e5-smal").startswith("Error: Unknown model 'e5-smal'. Did you mean e5-small?")


def test_an_index_that_does_not_exist(tmp_path):
    assert "no" in refused(tmp_path / "nothing")


def test_a_model_that_is_damaged(checkpoint):
    folder = checkpoint()
    (folder / "model.safetensors").write_bytes(b"damaged")
    assert refused("--model", folder, "--port", 0).startswith("Error: ")


def test_a_machine_without_the_packages(monkeypatch):
    from mretrieve import cli_serve
    from mretrieve.errors import MissingDependencyError
    from mretrieve.serve.settings import Settings

    monkeypatch.setattr(cli_serve, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(
        MissingDependencyError, match=r"the package uvicorn: run `pip install 'mretrieve\[serve\]'`"
    ):
        cli_serve.run(Settings())


def test_the_command_costs_nothing_before_it_runs():
    heavy = ["fastapi", "uvicorn", "torch", "numpy"]
    code = f"import sys, mretrieve.cli_serve\nprint([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_it_is_small_and_soon_ready(server, e5_folder):
    begin = time.perf_counter()
    process, url = server()
    seconds = time.perf_counter() - begin
    assert call(f"{url}/v1/embeddings", {"model": "e5-small:query", "input": "river"})[0] == 200
    if sys.platform == "linux":
        with open(f"/proc/{process.pid}/statm") as file:
            assert int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") < 600e6
    assert seconds < 30  # 2 on a quiet machine, which tests cannot count on


def test_answers_are_sent_at_once():
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
