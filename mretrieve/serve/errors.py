"""Errors of the HTTP interface, all in OpenAI's envelope.

`{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}`, with the status that OpenAI's clients
turn into their exceptions. No reply holds a stack trace, a path of this machine, or a key.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from mretrieve.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

INVALID = "invalid_request_error"
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
_CODES = {
    401: "invalid_api_key",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    500: "internal_error",
    503: "overloaded",
}
_PATH = re.compile(r"(?<![\w:/.])(?:~|\.{1,2})?(?:/[^\s/:;,'\"()]+)*/([^\s/:;,'\"()]+)/?")
"""A path of a file system, its last part apart."""


class ApiError(Exception):
    """A request that gets an error for an answer.

    Args:
        status: of HTTP.
        message: one or two sentences for the caller.
        param: the field of the request that is wrong.
        code: for programs; by default that of the status.
        retry_after: seconds after which to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code or _CODES.get(status)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """What goes into the reply's head."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers

    def to_dict(self) -> dict[str, Any]:
        """The reply's body."""
        kind = _TYPES.get(self.status, INVALID)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def without_paths(message: str) -> str:
    """A message of the library for a caller from outside: folders are left out, last names stay."""
    return _PATH.sub(r"\1", message)


def add_error_handlers(app: "FastAPI") -> None:
    """Have every error that a route can raise answered in the envelope."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    def reply(error: ApiError) -> "JSONResponse":
        return JSONResponse(error.to_dict(), status_code=error.status, headers=error.headers)

    @app.exception_handler(ApiError)
    async def known(_: "Request", error: ApiError) -> "JSONResponse":
        return reply(error)

    @app.exception_handler(InputError)
    @app.exception_handler(MissingDependencyError)
    async def of_the_library(_: "Request", error: Exception) -> "JSONResponse":
        return reply(ApiError(400, without_paths(str(error))))

    @app.exception_handler(RequestValidationError)
    async def not_valid(_: "Request", error: "RequestValidationError") -> "JSONResponse":
        return reply(from_validation(error.errors()))

    @app.exception_handler(HTTPException)
    async def of_http(request: "Request", error: "HTTPException") -> "JSONResponse":
        answer = reply(_from_http(error, request))
        answer.headers.update(error.headers or {})
        return answer


def from_validation(errors: Sequence[Any]) -> ApiError:
    """The first of FastAPI's complaints about a request; what was sent is not repeated."""
    first = errors[0]
    # `body`, `query` and the like tell where; in a union a tag follows that means nothing to the caller.
    place = [str(part) for part in first["loc"][1:] if not str(part).startswith("as:")]
    param = ".".join(place) or None
    if first["type"] == "json_invalid":
        return ApiError(400, "The body is not valid JSON.", code="invalid_json")
    if param is None and first["type"] in ("missing", "model_attributes_type", "dict_type"):
        return ApiError(400, "Send a JSON object, with the header `Content-Type: application/json`.")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"There is no field '{param:.100}'.", param=param, code="unknown_parameter")
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    return ApiError(400, f"{param}: {message}." if param else f"{message}.", param=param)


def _from_http(error: "HTTPException", request: "Request") -> ApiError:
    if error.status_code == 404:
        return ApiError(404, "There is no such address here; /docs lists those that there are.")
    if error.status_code == 405:
        return ApiError(405, f"{request.method} does not work here; /docs says what does.")
    status = 400 if error.status_code == 422 else error.status_code
    return ApiError(status, f"{HTTPStatus(status).phrase}.")
