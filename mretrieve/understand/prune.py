"""Keep the experts that a few languages use, and drop the others.

Koishekenov et al., 2023, Memory-efficient NLLB-200 (arXiv:2212.09811): without any training, most experts
of a multilingual model can go if those that stay are chosen by the gates' statistics on the language.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mretrieve.errors import InputError
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_moe import NomicMoEModel
from mretrieve.understand.rebuild import rebuild
from mretrieve.understand.statistics import RoutingStatistics

# Parameters of routers that have a place for each expert, and the dimension in which they have it.
_EXPERT_DIMENSION = {"layer.weight": 0, "light.weight": 0, "experts": 0, "languages.weight": 1}

_SOFTMAX_GATES = ("softmax", "sequence", "language")
"""Routers whose gates are the softmax of their logits over all experts."""


def expert_importance(statistics: RoutingStatistics) -> NDArray[np.float64]:
    """How much each expert matters to a language: top1(e) * exp(conf(e)), eq. 4 of Koishekenov et al.

    `top1` is the share of tokens whose first choice the expert is, `conf` its mean probability among them.

    Returns:
        (n_layers, n_experts), made to sum to 1 in each layer, as in their section 4.3.
    """
    firsts = statistics.firsts
    confidence = statistics.confidences / np.maximum(firsts, 1)
    importance = firsts / max(statistics.n_tokens, 1) * np.exp(confidence)
    shares: NDArray[np.float64] = importance / np.maximum(importance.sum(axis=1, keepdims=True), 1e-12)
    return shares


def choose_experts(
    statistics: Sequence[RoutingStatistics], n_experts: int, config: NomicConfig
) -> list[list[int]]:
    """The experts to keep in each layer: the most important ones, equally many everywhere.

    Importance is averaged over languages, so that one with more text has no more say. Experts that are
    never first are told apart by how often they are used at all. With the router `stratified` each stratum
    keeps as many, for its order is part of what the router computes.

    Args:
        statistics: one for each language.
        n_experts: how many to keep.
        config: of the model.

    Returns:
        Expert numbers, rising, for each layer that has experts.

    Raises:
        InputError: so many cannot be kept.
    """
    check_number(n_experts, config)
    importance = np.mean([expert_importance(one) for one in statistics], axis=0)
    use = np.mean([one.slots / max(one.slots.sum(), 1) for one in statistics], axis=0)
    strata = config.moe_top_k if config.router == "stratified" else 1
    size = config.num_experts // strata
    kept = []
    for important, used in zip(importance, use, strict=True):
        order = sorted(range(config.num_experts), key=lambda e: (-important[e], -used[e], e))
        inside = [[e for e in order if e // size == stratum] for stratum in range(strata)]
        kept.append(sorted(e for stratum in inside for e in stratum[: n_experts // strata]))
    return kept


def check_number(n_experts: int, config: NomicConfig) -> None:
    """Raise InputError unless a model can be left with so many experts per layer."""
    if not config.moe_layers:
        raise InputError("The model has no layers of experts: there are none to drop.")
    if not config.moe_top_k <= n_experts <= config.num_experts:
        raise InputError(
            f"Experts to keep must be between {config.moe_top_k}, which each token goes to, and "
            f"{config.num_experts}, which the model has, got {n_experts}."
        )
    if config.router == "stratified" and n_experts % config.moe_top_k:
        raise InputError(
            f"The router 'stratified' has {config.moe_top_k} strata of equal size: keep a multiple of that, "
            f"not {n_experts} experts."
        )


def prune_experts(
    model: NomicMoEModel, kept: Sequence[Sequence[int]], *, logits: Sequence[Tensor] | None = None
) -> NomicMoEModel:
    """Drop experts with their places in the routers; nothing else changes.

    The config's `normalize_gates` stays. Where it is set, a token whose experts are all kept gets what it
    got before, exactly, for the gates' ratio does not depend on the others. Where it is not, the softmax
    over fewer experts makes the gates larger. With `logits` each kept expert's outputs are then scaled, by
    its `w2`, so that gate times scale is the old gate as nearly as one factor can make it, in least squares
    over the tokens whose experts are all kept. Tokens that lost one have no right answer here; the softmax
    gives its share to the others.

    Args:
        model: to be left as it is.
        kept: rising expert numbers for each layer that has experts, as many in each.
        logits: (n_tokens, n_experts) of the old router for each of these layers, on the languages' text.
            They are of use with unnormalised gates of routers that take a softmax over all experts.

    Returns:
        The smaller model.
    """
    config = model.sizes
    old = model.state_dict()
    changed: dict[str, Tensor] = {}
    for place, layer in enumerate(config.moe_layers):
        prefix = f"encoder.layers.{layer}.mlp."
        numbers = torch.tensor(kept[place], device=model.device)
        for name, tensor in old.items():
            if name.startswith(f"{prefix}router."):
                dimension = _EXPERT_DIMENSION.get(name.removeprefix(f"{prefix}router."))
                if dimension is not None:
                    changed[name] = tensor.index_select(dimension, numbers)
            elif name.startswith(f"{prefix}experts.mlp."):
                rows = tensor.view(config.num_experts, -1, *tensor.shape[1:]).index_select(0, numbers)
                changed[name] = rows.flatten(0, 1)
        if logits is not None and _grow(config):
            scale = gate_scale(logits[place], kept[place], config.moe_top_k).to(model.device)
            rows = scale.repeat_interleave(config.intermediate_size).unsqueeze(1)
            name = f"{prefix}experts.mlp.w2"
            changed[name] = (changed[name].float() * rows).to(old[name].dtype)
    return rebuild(model, changed, num_experts=len(kept[0]), **_fixed_width(config, old))


def gate_scale(logits: Tensor, kept: Sequence[int], top_k: int) -> Tensor:
    """What each kept expert's gates have to be multiplied by to be as before.

    Args:
        logits: (n_tokens, n_experts), of the full router.
        kept: experts that stay.
        top_k: experts per token.

    Returns:
        (n_kept,) float32, at most 1; 1 for experts that no token goes to whose experts are all kept.
    """
    before = logits.float().softmax(dim=-1)
    stays = torch.zeros(logits.shape[1], dtype=torch.bool)
    stays[list(kept)] = True
    experts = before.topk(top_k, dim=-1).indices
    whole = stays[experts].all(dim=1, keepdim=True)  # (n_tokens, 1)
    before = before * torch.zeros_like(before).scatter(1, experts, 1.0) * whole
    after = logits.float()[:, list(kept)].softmax(dim=-1)
    before = before[:, list(kept)]
    products, squares = (before * after).sum(dim=0), (after * after * (before > 0)).sum(dim=0)
    return torch.where(squares > 0, products / squares.clamp(min=1e-30), 1.0)


def _grow(config: NomicConfig) -> bool:
    """Whether gates become larger when experts go."""
    return config.router in _SOFTMAX_GATES and not config.normalize_gates


def _fixed_width(config: NomicConfig, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """The width of X-MoE's router follows the number of experts by default; here it has to stay."""
    if config.router != "xmoe":
        return {}
    name = f"encoder.layers.{config.moe_layers[0]}.mlp.router.projection.weight"
    return {"router_dim": tensors[name].shape[0]}
