"""Planned against measured figures, of an index that is built in a moment."""

import json
import sys

import plan
import pytest


def test_plan_and_build_of_a_small_index(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MRETRIEVE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "figures.json"
    arguments = ["--sizes", "3000", "--dim", "32", "--factories", "Flat", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["plan.py", *arguments])
    plan.main()
    (one,) = json.loads(path.read_text())["found"]
    assert (one["vectors"], one["factory"]) == (3000, "Flat")
    assert one["planned"].keys() == one["measured"].keys()
    assert one["planned"]["disk_bytes"] == pytest.approx(one["measured"]["disk_bytes"], rel=0.01)
    assert one["measured"]["ram_building_bytes"] > 0 and one["measured"]["building_seconds"] > 0
    assert "| 3,000 | Flat | 0.4 / 0.4 |" in capsys.readouterr().out


def test_shards_are_as_large_as_those_of_a_build(tmp_path):
    plan.write_shards(tmp_path / "shards", 2100, 8)
    lengths = [len(plan.np.load(one)) for one in sorted((tmp_path / "shards").glob("*.npy"))]
    assert lengths == [1024, 1024, 52]
