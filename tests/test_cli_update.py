import pytest

from mretrieve.serve.settings import Settings
from tests.conftest import COLLECTION, write_jsonl
from tests.serve.live import live, wait_until

NEW = [
    {"_id": "fox", "text": "A fox runs after the dog.", "lang": "en"},
    {"_id": "cat", "text": "The cat is back.", "lang": "en"},
    {"_id": "bad", "text": ""},
]


@pytest.fixture
def index(own_index):
    return own_index


@pytest.fixture
def more(tmp_path):
    return write_jsonl(tmp_path / "more.jsonl", NEW)


def test_add_delete_compact_and_verify_tell_what_they_did(command, index, more):
    added = command("add", index, more, "--on-error", "skip")
    assert (added.status, added.stdout.split(", now")[0]) == (
        0,
        f"{index}: 2 added (1 in place of older ones)",
    )
    assert "7 documents in 4 languages" in added.stdout
    assert "1 skipped" in added.stderr or "empty" in added.stderr
    deleted = command("delete", index, "fox", "river")
    assert deleted.stdout.startswith(f"{index}: 2 deleted, now 5 documents in 3 languages")
    checked = command("verify", index)
    assert (checked.status, checked.stdout.split("(")[0]) == (0, f"{index}: whole ")
    assert "2 segments, 5 documents" in checked.stdout
    assert command("compact", index).stdout.startswith(f"{index}: 5 documents in 3 languages")
    assert command("verify", index, "--json").json["segments"] == 1
    assert command("info", index, "--verify").status == 0


def test_figures_are_given_as_json(command, index, more):
    added = command("add", index, more, "--on-error", "skip", "--json").json
    assert added == {"index": str(index), "added": 2, "replaced": 1, "skipped": 1, "documents": 7}
    deleted = command("delete", index, "fox", "--json").json
    assert deleted == {"index": str(index), "deleted": 1, "documents": 6}
    compacted = command("compact", index, "--json").json
    assert (compacted["documents"], compacted["bytes"] > 0) == (6, True)


def test_ids_come_from_a_file_too(command, tmp_path, index):
    (tmp_path / "ids.txt").write_text("نهر\nhund\n", "utf-8")
    assert command("delete", index, "cat", "--from", tmp_path / "ids.txt").stdout.startswith(
        f"{index}: 3 deleted"
    )


def test_an_index_gets_another_faiss_index_when_it_is_compacted(command, index):
    command("delete", index, "cat")
    command("compact", index, "--faiss", "HNSW8")
    assert "HNSW8" in command("info", index).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["delete", "IDX"], "There are no ids to delete"),
        (["delete", "IDX", "wolf"], "does not hold 'wolf' (1 of 1 ids): nothing was deleted"),
        (["delete", "IDX", "--from", "gone.txt"], "Cannot read ids from gone.txt"),
        (["delete", "IDX", *(one["_id"] for one in COLLECTION)], "without any document"),
        (["add", "IDX", "gone.jsonl"], "gone.jsonl"),
        (["add", "nowhere", "sample"], "There is no index nowhere"),
        (["compact", "nowhere"], "There is no index nowhere"),
        (["verify", "nowhere"], "There is no index nowhere"),
        (["add", "IDX", "sample", "--lang", "?!"], "?!"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence(command, index, arguments, message, monkeypatch):
    monkeypatch.chdir(index.parent)
    before = (index / "manifest.json").read_bytes()
    done = command(*(str(index) if one == "IDX" else one for one in arguments))
    assert (done.status, done.stdout) == (2, "")
    assert message in done.stderr and "Traceback" not in done.stderr
    assert (index / "manifest.json").read_bytes() == before
    assert [one.name for one in index.parent.iterdir()] == ["idx"]


@pytest.mark.slow
def test_a_server_sees_each_new_generation_without_a_restart(command, index, more):
    def ids(server):
        reply = server.json("/v1/search", query="dog fox cat", mode="dense", top_k=20)
        return sorted(hit["doc_id"] for hit in reply["hits"])

    with live(Settings(indexes=(index,))) as server:
        before = sorted(one["_id"] for one in COLLECTION)
        assert ids(server) == before
        command("add", index, more, "--on-error", "skip")
        wait_until(lambda: "fox" in ids(server))
        command("delete", index, "dog")
        wait_until(lambda: "dog" not in ids(server))
        command("compact", index)
        assert ids(server) == sorted({*before, "fox"} - {"dog"})
