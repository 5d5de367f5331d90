"""Curves of a run, as numbers and as a picture."""

import json

from mretrieve.train.curves import read_curves, write_curves

HISTORY = [
    {"step": 0, "eval_score": 0.25, "eval_ndcg@10_sw": 0.5, "eval_runtime": 3.0, "epoch": 0.0},
    {"step": 10, "loss": 2.5, "learning_rate": 1e-4, "epoch": 0.1},
    {"step": 20, "loss": 1.5, "learning_rate": 2e-4, "note": "not a number"},
    {"step": 20, "eval_score": 0.75, "eval_ndcg@10_sw": 0.625},
]
CURVES = {
    "eval_score": [(0, 0.25), (20, 0.75)],
    "eval_ndcg@10_sw": [(0, 0.5), (20, 0.625)],
    "loss": [(10, 2.5), (20, 1.5)],
    "learning_rate": [(10, 1e-4), (20, 2e-4)],
}


def test_the_log_becomes_curves():
    assert read_curves(HISTORY) == CURVES


def test_curves_are_written_as_json_and_picture(tmp_path):
    write_curves(CURVES, tmp_path, title="mix")
    written = json.loads((tmp_path / "curves.json").read_text(encoding="utf-8"))
    assert {name: [tuple(one) for one in points] for name, points in written.items()} == CURVES
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    write_curves({}, tmp_path, title="nothing yet")
    assert json.loads((tmp_path / "curves.json").read_text(encoding="utf-8")) == {}
