"""Two processes of torchrun train one model: each takes every other batch, the first writes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mretrieve.encode.encoder import Encoder

SCRIPT = """
import sys
from mretrieve.train.runner import run_recipe
import torch
torch.set_num_threads(1)
run_recipe(sys.argv[1], run_folder=sys.argv[2], device="cpu")
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.slow
def test_two_processes_train_one_model(write_recipe, stages, tmp_path):
    stages["mix"] |= {"steps": 2, "save_every": 1, "choose": "best"}
    stages["mix"]["tuning"] |= {"every": 2}
    stages["soup"] = {
        "stage": "merge",
        "models": ["mix", "base"],
        "how": "average",
        "max_tokens": 24,
        "tuning": stages["mix"]["tuning"],
    }
    recipe, script = write_recipe(stages), tmp_path / "run.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", str(free_port()), str(script), str(recipe), str(tmp_path / "run")]
    place = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=os.environ | place, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert [stage["status"] for stage in report["stages"]] == ["done"] * 4
    assert report["stages"][2]["details"]["steps"] == 2
    assert Encoder(str(tmp_path / "run" / "soup" / "model"), device="cpu").dim == 32
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert log.count("Stage 'mix' (train) starts") == 1
