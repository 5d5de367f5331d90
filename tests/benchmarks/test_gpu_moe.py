import json

import gpu_moe
import pytest
import torch
from gpu_moe import TINY, V2, Workload, main, summary, workloads


def test_v2_has_475_million_parameters_and_a_quarter_of_them_work():
    config = V2
    layers = 12 * (4 * 768**2 + 4 * 768) + 12 * 4 * 768  # attention; norms
    dense = 6 * (2 * 768 * 3072 + 3072 + 768)
    experts = 6 * (8 * 2 * 768 * 3072 + 768 + 8 * 768)
    assert 250049 * 768 + 2 * 768 + layers + dense + experts == pytest.approx(475e6, rel=0.001)
    one = Workload("one", [1], packed=False, gradients=False)
    active = 12 * 4 * 768**2 + (6 + 6 * 2) * 2 * 768 * 3072
    assert one.flops(config) == 2 * active + 12 * 4 * 768  # one token attends to itself


def test_flops_of_attention_grow_with_the_square_and_gradients_cost_twice_more():
    one, two = (Workload("", [n], packed=True, gradients=False).flops(TINY) for n in (1, 2))
    assert two - 2 * one == 2 * 4 * 64 * 2  # 4 pairs of tokens instead of 2, in 2 layers of width 64
    assert Workload("", [2], packed=True, gradients=True).flops(TINY) == 3 * two


def test_workloads_are_equally_large_and_realistic():
    full, packed = (work.lengths for work in workloads(tiny=False)[:2])
    assert full == [512] * 64
    assert sum(packed) == 32768
    assert max(packed) <= 512
    assert sum(packed) / len(packed) == pytest.approx(100, rel=0.1)


def test_the_summary_compares_the_fastest_modes():
    def row(model, mode, ms):
        return {"workload": "w", "model": model, "mode": mode, "milliseconds": ms, "tflops": 400 / ms} | {
            "tokens_per_second": 1000 / ms
        }

    rows = [row("moe", "eager", 4.0), row("moe", "graph", 2.0), row("dense", "eager", 1.6)]
    rows += [{"workload": "w", "model": "transformers", "mode": "eager", "error": "RuntimeError: no"}]
    assert summary(rows, 800.0) == {
        "w": {
            "mode": "graph",
            "tokens_per_second": 500,
            "utilisation": 0.25,
            "times_the_time_of_dense": 1.25,
        }
    }


def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "no CUDA device" in captured.err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # the compiler's own
def test_it_runs_to_the_end(tmp_path, capsys, monkeypatch):
    def fail(model, workload, device):
        if workload.packed and workload.gradients:
            raise RuntimeError("out of memory\nmore")
        return step(model, workload, device)

    step = gpu_moe.step
    monkeypatch.setattr(gpu_moe, "step", fail)
    torch._dynamo.reset()
    assert main(["--device", "cpu", "--tiny", "--json", str(tmp_path / "figures.json")]) == 0
    torch._dynamo.reset()
    figures = json.loads((tmp_path / "figures.json").read_text())
    measured = [row for row in figures["rows"] if "milliseconds" in row]
    assert {(row["model"], row["mode"]) for row in measured} == {
        (model, mode) for model in ("moe", "transformers", "dense") for mode in ("eager", "compiled")
    }
    assert len(measured) == 3 * 2 * 3
    assert {row["error"] for row in figures["rows"] if "error" in row} == {"RuntimeError: out of memory"}
    assert set(figures["relative_difference"]) == {"transformers", "grouped", "loop", "gathered", "all"}
    assert max(figures["relative_difference"].values()) < 0.05
    assert figures["graph_breaks"] == {}
    assert "| 32 tokens | compiled | moe |" in capsys.readouterr().out


def test_what_comes_too_late_is_not_begun(capsys):
    main(["--device", "cpu", "--tiny", "--minutes", "0"])
    assert (
        "eager, packed, all: out of time".replace("eager, packed", "packed, eager") in capsys.readouterr().out
    )
