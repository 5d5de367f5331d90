"""`GET /metrics`."""


def test_figures_of_requests(tiny):
    with tiny.client() as client:
        before = client.get("/metrics").text
        tiny.embed("cat")
        tiny.embed("cat", "none")
        client.get("/v1/secret-name")
        after = client.get("/metrics").text

    def value(text, line):
        return next((float(one.rpartition(" ")[2]) for one in text.splitlines() if one.startswith(line)), 0.0)

    for status in (200, 404):
        line = f'mretrieve_requests_total{{method="POST",route="/v1/embeddings",status="{status}"}}'
        assert value(after, line) == value(before, line) + 1
    tokens = 'mretrieve_tokens_total{kind="document",model="tiny"}'
    assert value(after, tokens) > value(before, tokens)
    assert 'route="other"' in after and "secret-name" not in after
    for name in ("request_seconds_bucket", "batch_texts_bucket", "batch_tokens_bucket", "queue_texts"):
        assert f"mretrieve_{name}" in after
    assert "process_resident_memory_bytes" in after
