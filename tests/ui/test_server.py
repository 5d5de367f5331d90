import asyncio

from mretrieve.ui.server import POLICY, OwnHostOnly


def reply(scope):
    """What an app behind the middleware sends."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b"text"})

    async def send(message):
        sent.append(message)

    asyncio.run(OwnHostOnly(app)(scope, None, send))
    return sent


def test_headers_are_added():
    start, body = reply({"type": "http"})
    headers = dict(start["headers"])
    assert headers[b"x-own"] == b"1"
    assert headers[b"content-security-policy"] == POLICY.encode()
    assert body["body"] == b"text"


def test_other_protocols_pass_through():
    start, _ = reply({"type": "websocket"})
    assert start["headers"] == [(b"x-own", b"1")]


def test_no_other_host_is_allowed():
    sources = {source for rule in POLICY.split("; ") for source in rule.split()[1:]}
    assert sources <= {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
