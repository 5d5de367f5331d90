import gzip
import json

import pytest

from mretrieve.errors import InputError
from mretrieve.mine.candidates import Triple
from mretrieve.mine.output import Output
from mretrieve.mine.report import MiningReport
from mretrieve.mine.triples import to_line
from mretrieve.types import Query
from tests.mine.conftest import candidate

ONE, TWO = (Triple(Query(name, "x", "en"), candidate("p"), (candidate("n"),)) for name in "12")


def test_work_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "deep" / "t.jsonl"
    with (first := Output(path, fingerprint="f")).locked():
        assert first.resume() == (None, 0)
        first.append([ONE], done=10, state={"counts": 1})
    with (second := Output(path, fingerprint="f")).locked():
        assert second.resume() == ({"counts": 1}, 10)
        second.append([TWO], done=20, state={})
        second.finish(MiningReport({"a": 1}))
    assert path.read_bytes() == to_line(ONE) + to_line(TWO)
    assert sorted(one.name for one in path.parent.iterdir()) == ["t.jsonl", "t.report.json", "t.report.md"]
    assert json.loads((path.parent / "t.report.json").read_bytes())["settings"] == {"a": 1}


def test_a_chunk_that_was_cut_off_is_written_again(tmp_path):
    path = tmp_path / "t.jsonl.gz"
    first = Output(path, fingerprint="f")
    first.resume()
    first.append([ONE], done=1, state={})
    with open(tmp_path / "t.jsonl.gz.building" / "triples.jsonl", "ab") as file:
        file.write(b'{"half": ')
    second = Output(path, fingerprint="f")
    assert second.resume() == ({}, 1)
    second.append([TWO], done=2, state={})
    second.finish(MiningReport({}))
    assert gzip.decompress(path.read_bytes()) == to_line(ONE) + to_line(TWO)


@pytest.mark.parametrize("damage", ["fingerprint", "progress", "triples"])
def test_other_or_damaged_work_is_begun_again(tmp_path, damage):
    first = Output(tmp_path / "t.jsonl", fingerprint="f")
    first.resume()
    first.append([ONE], done=1, state={})
    building = tmp_path / "t.jsonl.building"
    if damage == "progress":
        (building / "progress.json").write_bytes(b"{")
    if damage == "triples":
        (building / "triples.jsonl").write_bytes(b"")
    second = Output(tmp_path / "t.jsonl", fingerprint="g" if damage == "fingerprint" else "f")
    assert second.resume() == (None, 0)
    assert (building / "triples.jsonl").read_bytes() == b""


def test_names_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match=r"ends in .jsonl or .jsonl.gz"):
        Output(tmp_path / "t.tsv", fingerprint="f")
    (tmp_path / "t.jsonl").write_text("old")
    with pytest.raises(InputError, match="exists. Choose another name, or replace it with --overwrite"):
        Output(tmp_path / "t.jsonl", fingerprint="f")
    Output(tmp_path / "t.jsonl", fingerprint="f", overwrite=True)
    (tmp_path / "f.jsonl").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        Output(tmp_path / "f.jsonl", fingerprint="f", overwrite=True)
