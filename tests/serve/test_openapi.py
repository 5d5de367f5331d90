"""The OpenAPI file is true: schemathesis makes requests of it and compares what comes back."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.serve.conftest import running

KEY = "sk-0123456789abcdef"

# What a JSON schema cannot say, such as that a text has too many tokens or an object no text, is a 400 too.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 404]
"""


@pytest.fixture(scope="module")
def whole(model, small_index):
    """A server with an index too."""
    with running(models=(f"tiny={model}",), indexes=(small_index,)) as one:
        yield one


def document(server):
    with server.client() as client:
        return client.get("/openapi.json").json()


def test_all_routes_and_their_errors_are_there(whole):
    content = document(whole)
    assert {"/v1/embeddings", "/v1/models", "/v1/search", "/v1/rerank", "/health", "/metrics"} <= set(
        content["paths"]
    )
    for path, operations in content["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"], path
            assert {"400", "401", "403", "404", "413", "429", "503"} <= set(operation["responses"])
            assert operation["summary"]
    body = content["paths"]["/v1/embeddings"]["post"]["requestBody"]["content"]["application/json"]
    assert body["examples"]
    fields = content["components"]["schemas"]["EmbeddingsRequest"]["properties"]
    assert fields["model"]["enum"][:3] == ["tiny", "tiny:query", "tiny:document"]
    assert "ValidationError" not in json.dumps(content)


def test_keys_are_described_where_they_are_needed(whole, model, tmp_path):
    assert "securitySchemes" not in document(whole)["components"]
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    with running(models=(f"tiny={model}",), api_key_file=keys) as one:
        content = document(one)
    assert content["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    assert content["paths"]["/v1/embeddings"]["post"]["security"] == [{"key": []}]
    assert "security" not in content["paths"]["/health"]["get"]


@pytest.mark.slow
def test_schemathesis_finds_nothing(whole, tmp_path):
    if find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed")
    program = Path(sys.executable).with_name("schemathesis")
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [program, "--config-file", config, "run", f"{whole.url}/openapi.json", "--seed", "1"]
    command += ["--max-examples", "10", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
