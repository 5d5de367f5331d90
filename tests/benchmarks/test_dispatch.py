import json
import math
from pathlib import Path

import pytest
import torch
from dispatch import Case, main, propose

from mretrieve.models.dispatch import TABLE

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def case(tokens, *, hidden=768, gradients=False, dtype=torch.float32):
    return Case(hidden, 4 * hidden, dtype, gradients, tokens)


def figures(*rows):
    found = [(case(tokens, hidden=hidden), times) for tokens, hidden, times in rows]
    for dtype in (torch.float32, torch.bfloat16):
        for gradients in (False, True):
            if (dtype, gradients) != (torch.float32, False):
                found.append((case(1, dtype=dtype, gradients=gradients), {"loop": 1.0}))
    return propose(found)


def test_the_fastest_is_proposed_up_to_where_another_is():
    table = figures(
        (1, 768, {"loop": 2.0, "all": 1.0}),
        (4, 768, {"loop": 2.0, "all": 1.5}),
        (16, 768, {"loop": 1.0, "all": 3.0}),
    )
    assert table[torch.float32, False] == ((4, "all"), (math.inf, "loop"))


def test_sizes_count_alike():
    table = figures((1, 768, {"loop": 10.0, "all": 11.0}), (1, 384, {"loop": 2.0, "all": 1.0}))
    assert table[torch.float32, False] == (
        (math.inf, "all"),
    )  # 1.05 and not 1.5 times the fastest, on average


def test_what_is_nearly_as_fast_stays():
    table = figures((1, 768, {"loop": 1.0, "all": 2.0}), (4, 768, {"loop": 1.04, "all": 1.0}))
    assert table[torch.float32, False] == ((math.inf, "loop"),)


def test_the_package_chooses_by_the_measured_table():
    measured = json.loads((RESULTS / "dispatch.json").read_text())
    rows = {
        ("cpu", getattr(torch, row["dtype"]), row["gradients"]): tuple(
            (math.inf if most is None else most, name)
            for most, name in zip(row["up_to_tokens"], row["strategies"], strict=True)
        )
        for row in measured["table"]
    }
    assert rows == TABLE


@pytest.mark.slow
def test_it_runs_to_the_end(tmp_path, capsys):
    main(["--tiny", "--seconds", "0.01", "--json", str(tmp_path / "figures.json")])
    assert '("cpu", torch.bfloat16, True): ' in capsys.readouterr().out
    content = json.loads((tmp_path / "figures.json").read_text())
    assert len(content["milliseconds"]) == 8
    assert set(content["milliseconds"][0]["ms"]) == {"grouped", "loop", "gathered", "all"}
    assert content["table"][0]["up_to_tokens"][-1] is None
