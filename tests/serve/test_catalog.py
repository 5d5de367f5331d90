"""`GET /v1/models`."""

import time

from tests.serve.conftest import error_of


def test_models_as_openai_lists_them(tiny):
    with tiny.client() as client:
        models = client.get("/v1/models").json()
        assert models["object"] == "list"
        assert [one["id"] for one in models["data"]] == ["tiny", "tiny:query", "tiny:document"]
        one = client.get("/v1/models/tiny:query").json()
        assert one == models["data"][1]
        assert (one["object"], one["dimensions"], one["max_tokens"]) == ("model", [32], 30)
        assert abs(one["created"] - time.time()) < 3600
        assert error_of(client.get("/v1/models/none"), 404)["code"] == "model_not_found"
