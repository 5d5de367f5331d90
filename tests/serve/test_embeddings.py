"""`POST /v1/embeddings` over a real connection."""

import base64

import numpy as np
import pytest

from mretrieve import Encoder
from mretrieve.serve.embeddings import shorten
from tests.serve.conftest import error_of

SENTENCES = ["the cat", "a dog runs after the cat", "the"]


def vectors(reply):
    assert reply.status_code == 200, reply.text[:300]
    data = reply.json()["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    return np.array([one["embedding"] for one in data], np.float32)


@pytest.fixture(scope="module")
def encoder(model):
    return Encoder(str(model))


def test_a_list_of_texts(tiny, encoder):
    reply = tiny.embed(SENTENCES)
    assert vectors(reply) == pytest.approx(encoder.encode_documents(SENTENCES), abs=1e-5)
    body = reply.json()
    n_tokens = sum(encoder.count_tokens(SENTENCES))
    assert body["usage"] == {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    assert (body["object"], body["model"]) == ("list", "tiny")
    assert body["data"][0]["object"] == "embedding"
    assert len(reply.headers["x-request-id"]) == 16


def test_one_text(tiny, encoder):
    assert vectors(tiny.embed("the cat")) == pytest.approx(encoder.encode_documents(["the cat"]), abs=1e-5)


def test_base64_is_little_endian_float32(tiny):
    reply = tiny.embed(SENTENCES, encoding_format="base64").json()
    rows = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in reply["data"]]
    assert np.array(rows) == pytest.approx(vectors(tiny.embed(SENTENCES)), abs=1e-7)


def test_name_and_input_type_choose_the_prompt(e5, e5_folder):
    encoder = Encoder("e5-small")
    query, document = encoder.encode_queries(["river"])[0], encoder.encode_documents(["river"])[0]
    for fields, expected in (
        ({"model": "e5-small"}, document),
        ({"model": "e5-small:document"}, document),
        ({"model": "e5-small:query"}, query),
        ({"model": "e5-small", "input_type": "search_query"}, query),
        ({"model": "e5-small", "input_type": "passage"}, document),
    ):
        assert vectors(e5.embed("river", **fields))[0] @ expected > 0.9999
    assert query @ document < 0.999


def test_fields_that_are_taken_and_not_used(tiny):
    assert tiny.embed("cat", user="someone").status_code == 200
    nothing = {"dimensions": None, "user": None, "input_type": None}
    assert tiny.embed("cat", **nothing).status_code == 200


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """A server of a model that was trained for 8 and 16 dimensions too."""
    import json

    from tests.conftest import make_checkpoint
    from tests.serve.conftest import running

    folder = make_checkpoint(tmp_path_factory.mktemp("nested"))
    config = json.loads((folder / "config.json").read_text()) | {"matryoshka_dims": [8, 16, 32]}
    (folder / "config.json").write_text(json.dumps(config))
    with running(models=(f"nested={folder}",), max_inputs=10, max_tokens=100, max_body_bytes=20_000) as one:
        yield one


def test_fewer_dimensions_of_unit_length(nested):
    whole = vectors(nested.embed(SENTENCES, "nested", dimensions=32))
    short = vectors(nested.embed(SENTENCES, "nested", dimensions=8))
    assert short.shape == (3, 8)
    assert short == pytest.approx(
        whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1, keepdims=True), abs=1e-6
    )
    with nested.client() as client:
        assert client.get("/v1/models/nested:query").json()["dimensions"] == [32, 16, 8]


@pytest.mark.parametrize("dimensions", [7, 33, 10**30])
def test_dimensions_that_it_was_not_trained_for(nested, dimensions):
    error = error_of(nested.embed("cat", "nested", dimensions=dimensions), 400)
    assert error["param"] == "dimensions"
    assert "Choose from: 32, 16, 8" in error["message"]


def test_a_vector_of_zeros_stays_one():
    assert shorten(np.array([[0, 0, 1]], np.float32), 2).tolist() == [[0, 0]]


def test_as_many_inputs_as_allowed(nested):
    assert len(vectors(nested.embed(["cat"] * 10, "nested"))) == 10
    error = error_of(nested.embed(["cat"] * 11, "nested"), 400)
    assert error == {
        "message": "There are 11 inputs, but a request may have 10. Send fewer at once.",
        "type": "invalid_request_error",
        "param": "input",
        "code": None,
    }


def test_as_many_tokens_as_allowed(nested):
    error = error_of(nested.embed(["the cat sat on the mat"] * 10, "nested"), 400)
    assert error["code"] == "max_tokens_per_request"


def test_a_text_that_is_too_long(nested):
    long = "the cat " * 30
    reply = nested.embed([long, "cat"], "nested")
    assert reply.headers["x-texts-cut"] == "1"
    assert reply.json()["usage"]["total_tokens"] == 30 + 6
    error = error_of(nested.embed([long, "cat"], "nested", truncate="NONE"), 400)
    assert error["code"] == "context_length_exceeded"
    assert "x-texts-cut" not in nested.embed("cat", "nested").headers


def test_2048_texts_and_a_long_reply(tiny):
    reply = tiny.embed([f"cat {'ab' * (n % 7)}" for n in range(2048)])
    assert vectors(reply).shape == (2048, 32)
    assert error_of(tiny.embed(["cat"] * 2049), 400)["param"] == "input"


def test_token_ids_are_text(e5):
    tiktoken_ids = [15339, 1917]  # hello world
    reply = e5.embed(tiktoken_ids, "e5-small")
    if reply.status_code == 400 and reply.json()["error"]["code"] == "token_ids_not_supported":
        pytest.skip("no package here carries cl100k_base")
    expected = vectors(e5.embed("hello world", "e5-small"))
    assert vectors(reply) == pytest.approx(expected, abs=1e-5)
    several = vectors(e5.embed([tiktoken_ids, [15339]], "e5-small"))
    assert several[0] == pytest.approx(expected[0], abs=1e-4)
    assert several.shape == (2, 384)
    assert error_of(e5.embed([[1], [100_257]], "e5-small"), 400)["param"] == "input"  # nothing is left


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("", "input"),
        ([], "input"),
        ([""], "input.0"),
        (["cat", ""], "input.1"),
        (["cat", 3], "input.1"),
        (["cat", None], "input.1"),
        ([1, "cat"], "input.1"),
        ([1, 2.5], "input.1"),
        ([1, True], "input.1"),
        ([True], "input.0"),
        ([-1], "input.0"),
        ([10**30], "input.0"),
        ([[]], "input.0"),
        ([[1], []], "input.1"),
        ([[1], "cat"], "input.1"),
        ([[[1]]], "input.0.0"),
        ([{"text": "cat"}], "input.0"),
        ({"text": "cat"}, "input"),
        (None, "input"),
        (5, "input"),
    ],
)
def test_inputs_that_are_none(tiny, given, param):
    error = error_of(tiny.embed(given), 400)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_half_a_character_is_an_error(tiny):
    with tiny.client() as client:
        for content in (
            b'{"model": "tiny", "input": "a\\ud800b"}',
            b'{"model": "tiny", "input": ["\\udc00"]}',
        ):
            reply = client.post(
                "/v1/embeddings", content=content, headers={"content-type": "application/json"}
            )
            error_of(reply, 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": "8"}, "dimensions"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"input_type": "image"}, "input_type"),
        ({"truncate": "MIDDLE"}, "truncate"),
        ({"user": 3}, "user"),
        ({"dimension": 8}, "dimension"),
    ],
)
def test_fields_that_are_wrong(tiny, fields, param):
    assert error_of(tiny.embed("cat", **({"model": "tiny"} | fields)), 400)["param"] == param


def test_a_model_that_is_not_there(tiny):
    assert error_of(tiny.embed("cat", "gpt-4"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[1]", "application/json"),
        (b'"cat"', "application/json"),
        (b"null", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'\xff\xfe{"', "application/json"),
        (b'{"model": "tiny", "input": "cat"}', "text/plain"),
        (b'{"model": "tiny", "input": "cat"}', ""),
        (b"model=tiny&input=cat", "application/x-www-form-urlencoded"),
    ],
)
def test_bodies_that_are_no_requests(tiny, content, kind):
    headers = {"content-type": kind} if kind else {}
    with tiny.client() as client:
        error_of(client.post("/v1/embeddings", content=content, headers=headers), 400)
