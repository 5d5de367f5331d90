"""Speed of training: moe-small in our loop against the dense model of equal active size in the library's.

The peer is sentence-transformers' own loop with its ranking loss on padded batches, and e5-small with the
feed-forward networks doubled (random extra weights) in the layers that have experts in moe-small, so that
both models compute with as many weights per token. It is measured as it comes (all weights trained, float32)
and with what we also use: bfloat16, and the embedding matrix frozen. Both see the same pairs, in turns.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch_timing import machine, print_table, write_json
from transformers import PrinterCallback, TrainerCallback

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.models.nomic_files import save_nomic_moe
from mretrieve.models.upcycle import expert_layers, upcycle
from mretrieve.train.assemble import make_trainer
from mretrieve.train.batches import Batching
from mretrieve.train.context import StageContext
from mretrieve.train.objectives import Objective, Ranking
from mretrieve.train.pairs import COLUMNS, read_retrieval
from mretrieve.train.recipe import Recipe
from mretrieve.train.sets import write_set
from mretrieve.train.training import TrainStage

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("en-tydiqa", "id-tydiqa", "zh-drcd", "fa-pquad")
MAX_TOKENS = 160
LAYERS = expert_layers(12)


class Clock(TrainerCallback):
    """Seconds from the end of the first step to the end of the last, so that nothing is measured twice."""

    def __init__(self) -> None:
        self.start = self.end = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time; on a GPU when it is done with the step."""
        if state.global_step in (1, state.max_steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.perf_counter()
            self.start, self.end = (now, now) if state.global_step == 1 else (self.start, now)


def read_pairs(data: Path, n: int) -> dict[str, list[Any]]:
    """Pairs of questions and passages in four languages, in turns."""
    streams = [read_retrieval(data / "train" / name, ["train"], address=name) for name in FOLDERS]
    pairs = [next(stream) for _ in range(-(-n // len(FOLDERS))) for stream in streams][:n]
    return {name: [getattr(pair, name) for pair in pairs] for name in COLUMNS}


def ours(columns: dict[str, list[Any]], work: Path, choices: argparse.Namespace) -> Callable[[], float]:
    """moe-small by the stage `train`: a function that trains and gives examples per second."""
    checkpoint = find_checkpoint("e5-small")
    model = upcycle(checkpoint.folder, moe_layers=LAYERS, num_experts=8, top_k=2)
    prompts = {"query": checkpoint.query_prefix, "passage": checkpoint.document_prefix}
    save_nomic_moe(model, work / "moe", tokenizer=checkpoint.folder, prompts=prompts, max_length=512)
    write_set(columns, work / "pairs")
    objective = Objective(
        data=str(work / "pairs"),
        batch_size=choices.batch,
        batching=Batching(languages="random"),
        ranking=Ranking(temperature=0.05),
    )
    stage = TrainStage(
        stage="train",
        name="ours",
        model=str(work / "moe"),
        teacher=None,
        objectives={"pairs": objective},
        steps=choices.steps,
        max_tokens=MAX_TOKENS,
        save_every=10**6,
    )
    recipe = Recipe(work / "train.yaml", "train", 13, (stage,))
    context = StageContext(recipe, stage, work, 13, choices.device, lambda *_: None)
    context.folder.mkdir()
    trainer = make_trainer(stage, context, {"pairs": Dataset.load_from_disk(str(work / "pairs"))}, None)
    return lambda: examples_per_second(trainer, choices)


def peer(
    columns: dict[str, list[Any]], work: Path, choices: argparse.Namespace, *, tuned: bool
) -> Callable[[], float]:
    """The dense model in the library's loop."""
    model = doubled(choices.device)
    if tuned:
        inner: Any = model[0].model
        inner.embeddings.requires_grad_(False)
    checkpoint = find_checkpoint("e5-small")
    data = {
        "anchor": [checkpoint.query_prefix + text for text in columns["anchor"]],
        "positive": [checkpoint.document_prefix + text for text in columns["positive"]],
    }
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work / "peer"),
        max_steps=choices.steps,
        per_device_train_batch_size=choices.batch,
        bf16=tuned,
        use_cpu=choices.device == "cpu",
        dataloader_pin_memory=choices.device != "cpu",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict(data),
        loss=MultipleNegativesRankingLoss(model),
    )
    trainer.remove_callback(PrinterCallback)
    return lambda: examples_per_second(trainer, choices)


def doubled(device: str) -> SentenceTransformer:
    """e5-small whose feed-forward networks have twice the width in the layers that get experts."""
    model = SentenceTransformer(str(find_checkpoint("e5-small").folder), device="cpu")
    model.max_seq_length = MAX_TOKENS
    inner: Any = model[0].model
    for number in LAYERS:
        layer = inner.encoder.layer[number]
        for part, axis in ((layer.intermediate, 0), (layer.output, 1)):
            old = part.dense.weight
            part.dense.weight = torch.nn.Parameter(torch.cat([old, torch.randn_like(old) * old.std()], axis))
            if axis == 0:
                bias = part.dense.bias
                part.dense.bias = torch.nn.Parameter(torch.cat([bias, torch.zeros_like(bias)]))
    return model.to(device)


def examples_per_second(trainer: Any, choices: argparse.Namespace) -> float:
    """Train once; the first step does not count."""
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    trainer.remove_callback(clock)
    examples: int = (choices.steps - 1) * choices.batch
    return examples / (clock.end - clock.start)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folder")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=16, help="pairs in a batch")
    parser.add_argument(
        "--steps", type=int, default=4, help="steps of one run, of which the first is not timed"
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each")
    choices = parser.parse_args()
    columns = read_pairs(choices.data, choices.steps * choices.batch)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        runs = {
            "mretrieve, moe-small": ours(columns, work, choices),
            "sentence-transformers, dense, bf16, embeddings frozen": peer(columns, work, choices, tuned=True),
            "sentence-transformers, dense, as it comes": peer(columns, work, choices, tuned=False),
        }
        speeds: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(choices.rounds):
            for name, run in runs.items():
                print(f"round {number + 1}: {name}", file=sys.stderr)
                speeds[name].append(run())
    first, *others = speeds
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(speeds[first], speeds[name], strict=True))
        for name in others
    }
    rows = [[name, f"{medians[name]:.1f}", f"{ratios.get(name, 1.0):.2f}"] for name in speeds]
    print_table(["", "examples/s", "ours / this"], rows)
    settings = {key: getattr(choices, key) for key in ("batch", "steps", "rounds")} | {"tokens": MAX_TOKENS}
    figures = {"machine": machine(torch.device(choices.device)), "settings": settings}
    write_json(choices.json, figures | {"examples_per_second": medians, "ours_over_peer": ratios})


if __name__ == "__main__":
    main()
