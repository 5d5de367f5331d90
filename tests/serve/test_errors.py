"""Errors in OpenAI's envelope, with nothing in them that is nobody's business."""

import pytest

from mretrieve.serve.errors import ApiError, from_validation, without_paths


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("There is no index /srv/indexes/news.", "There is no index news."),
        ("/home/me/my-index/dense.faiss is missing", "dense.faiss is missing"),
        ("Cannot use '/a/b': gone", "Cannot use 'b': gone"),
        ("see ~/models/x and ./y/z or ../../w", "see x and z or w"),
        ("the model intfloat/multilingual-e5-base", "the model intfloat/multilingual-e5-base"),
        ("nothing to hide, 3/4 of it", "nothing to hide, 3/4 of it"),
    ],
)
def test_folders_are_left_out(message, left):
    assert without_paths(message) == left


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (401, "authentication_error", "invalid_api_key"),
        (403, "permission_error", "permission_denied"),
        (404, "invalid_request_error", "not_found"),
        (413, "invalid_request_error", "request_too_large"),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (503, "server_error", "overloaded"),
    ],
)
def test_each_status_has_its_type(status, kind, code):
    error = ApiError(status, "No.", param="x").to_dict()["error"]
    assert error == {"message": "No.", "type": kind, "param": "x", "code": code}


def test_headers():
    assert ApiError(429, "No.", retry_after=7).headers == {"retry-after": "7"}
    assert ApiError(401, "No.").headers == {"www-authenticate": "Bearer"}
    assert ApiError(400, "No.").headers == {}


def test_what_was_sent_is_not_repeated():
    complaint = {"type": "string_type", "loc": ("body", "input", "as:texts", 1), "msg": "Not a string"}
    error = from_validation([complaint | {"input": "a secret"}])
    assert (error.status, error.param, error.message) == (400, "input.1", "input.1: Not a string.")
