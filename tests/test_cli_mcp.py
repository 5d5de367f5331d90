"""The command `mretrieve mcp` as a process: what it says on which stream, and what it makes of mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def run(*arguments, given=""):
    return subprocess.run(
        [sys.executable, "-m", "mretrieve.cli", "mcp", *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )


def test_help_says_what_an_agent_needs(command):
    done = command("mcp", "--help")
    assert done.status == 0
    assert "Model Context Protocol" in " ".join(done.stdout.split())
    assert "as the command in an agent's settings" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_only_the_protocol_is_on_stdout_and_it_ends_with_its_input(small_index):
    done = run(small_index, given=json.dumps(HELLO) + "\n")
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    reply = json.loads(line)
    assert (reply["id"], reply["result"]["serverInfo"]["name"]) == (1, "mretrieve: small")
    assert done.stderr == ""


@pytest.mark.slow
def test_a_line_that_is_no_json_is_told_once_and_does_no_harm(small_index):
    done = run(small_index, given="no json\n" + json.dumps(HELLO) + "\n")
    assert done.returncode == 0
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in done.stdout.splitlines())
    lines = done.stderr.splitlines()
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_what_is_no_index_is_told_before_anything_is_served(command, tmp_path, name):
    (tmp_path / "empty").mkdir()
    done = command("mcp", tmp_path / name)
    assert (done.status, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert "mretrieve index" in done.stderr or "is not an index" in done.stderr
