"""The page about the interface."""

import html
import json
import re
import subprocess


def page(server):
    with server.client(follow_redirects=True) as client:
        reply = client.get("/")
        assert reply.url.path == "/docs"
        return reply


def test_it_names_all_there_is(tiny):
    text = page(tiny).text
    with tiny.client() as client:
        document = client.get("/openapi.json").json()
    assert "422" not in json.dumps(document)
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"{method.upper()} {html.escape(path)}" in text
    for name in document["components"]["schemas"]["EmbeddingsRequest"]["properties"]:
        assert f"<code>{name}</code>" in text


def test_nothing_comes_from_another_host_and_no_script_runs(tiny):
    reply = page(tiny)
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in reply.text and "src=" not in reply.text
    assert not re.findall(r'href="(?!#|openapi.json)', reply.text)


def test_its_examples_work_as_they_stand(e5):
    commands = [html.unescape(one) for one in re.findall(r"<pre>(.*?)</pre>", page(e5).text, re.DOTALL)]
    mine = [one for one in commands if "/v1/embeddings" in one]
    assert len(mine) >= 2
    for command in mine:
        done = subprocess.run(["bash", "-c", f"{command} -sf"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["data"]
