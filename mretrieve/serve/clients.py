"""Callers that go away: their work is given up."""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from mretrieve.serve.gate import ClientGoneError

if TYPE_CHECKING:
    from fastapi import Request

T = TypeVar("T")


async def unless_gone(request: "Request", work: Coroutine[Any, Any, T]) -> T:
    """Do a request's work for as long as its caller waits.

    Args:
        request: whose body has been read.
        work: cancelled when the connection is closed.

    Returns:
        What the work gives.

    Raises:
        ClientGoneError: the caller closed the connection first.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()


async def _wait_until_gone(request: "Request") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
