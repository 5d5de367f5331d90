"""Callers that go away."""

import json
import socket
import threading

from tests.serve.conftest import running
from tests.serve.live import wait_until


def test_work_that_nobody_waits_for_leaves_the_queue(model):
    with running(models=(f"tiny={model}",)) as one:
        served, lane = one.state.models.default, one.state.batcher.long
        compute, go_on, started = served.embed, threading.Event(), threading.Event()

        def slowly(ids, **_):
            started.set()
            assert go_on.wait(60)
            return compute(ids)

        served.embed = slowly
        first = threading.Thread(target=one.embed, args=(["the cat sat on the mat"] * 40,))
        first.start()
        assert started.wait(60)
        body = json.dumps({"model": "tiny", "input": ["the dog"] * 500}).encode()
        with socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2]))) as connection:
            head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
            connection.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body)
            wait_until(lambda: lane.waiting_texts == 500)
        wait_until(lambda: lane.waiting_texts == 0)
        go_on.set()
        first.join(60)
        assert one.embed("cat").status_code == 200
        gone = one.state.metrics.requests.labels("/v1/embeddings", "POST", "499")
        wait_until(lambda: gone._value.get() == 1)


def test_a_caller_that_goes_before_all_is_sent(tiny):
    with socket.create_connection(("127.0.0.1", int(tiny.url.rpartition(":")[2]))) as connection:
        connection.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert tiny.embed("cat").status_code == 200
