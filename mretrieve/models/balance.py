"""Losses of routers: that they favour no few experts, stay small and decided, and teach a light router.

The official load-balancing loss of Nomic Embed v2 (that of MegaBlocks) counts padding too, whose routing
depends on the attention kernel; give a mask to count real tokens only, as our training does. Nothing here
asks a GPU for a value.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routing import Routing

BalanceLoss = Callable[..., Tensor]


class Choices(NamedTuple):
    """What the routers of all expert layers chose, where it is not the `top_k` largest logits.

    For each layer (n_tokens, top_k): `experts`, and `gates`, of which those at 0 mean "not used".
    """

    experts: Sequence[Tensor]
    gates: Sequence[Tensor]


def load_balancing_loss(
    router_logits: Sequence[Tensor],
    *,
    top_k: int,
    mask: Tensor | None = None,
    choices: Choices | None = None,
) -> Tensor:
    """Penalise uneven use of experts, over all expert layers and all `top_k` choices.

    Gale et al., 2022 (arXiv:2211.15841), after Fedus et al., 2021 (arXiv:2101.03961), eq. 4:
    n_experts / (n_layers * n_tokens * top_k) * sum of counts times mean probabilities. The official total
    is this times the config's `router_aux_loss_coef`.

    Args:
        router_logits: for each expert layer (n_tokens, n_experts), before the softmax.
        top_k: experts chosen per token; only the first so many slots of `choices` count.
        mask: (n_tokens,), non-zero on the tokens that count; all without it.
        choices: of routers that do not choose the largest logits; unused slots do not count.

    Returns:
        Scalar float32, 1.0 when every expert is used equally; no gradient flows through the counts. 0
        where no token counts.

    Raises:
        ValueError: there is no layer, or `top_k` is not between 1 and n_experts.
    """
    layers = _layers(router_logits, top_k, mask, choices)
    return torch.stack([_share_times_probability(layer) for layer in layers]).mean()


def switch_loss(
    router_logits: Sequence[Tensor],
    *,
    top_k: int,
    mask: Tensor | None = None,
    choices: Choices | None = None,
) -> Tensor:
    """The same with the first choice alone counted (Fedus et al., 2021, arXiv:2101.03961, eq. 4).

    Args, Returns, Raises: as `load_balancing_loss`.
    """
    del top_k  # of the signature that all these losses share
    return load_balancing_loss(router_logits, top_k=1, mask=mask, choices=choices)


def gshard_loss(
    router_logits: Sequence[Tensor],
    *,
    top_k: int,
    mask: Tensor | None = None,
    choices: Choices | None = None,
) -> Tensor:
    """Mean over experts of first-choice share times mean probability.

    Lepikhin et al., 2020 (arXiv:2006.16668), algorithm 1: the Switch loss divided by n_experts squared.

    Args, Raises: as `load_balancing_loss`.

    Returns:
        Scalar float32, 1 / n_experts ** 2 when every expert is used equally.
    """
    loss = switch_loss(router_logits, top_k=top_k, mask=mask, choices=choices)
    return loss / router_logits[0].shape[-1] ** 2


def overload_loss(
    router_logits: Sequence[Tensor],
    *,
    top_k: int,
    mask: Tensor | None = None,
    choices: Choices | None = None,
) -> Tensor:
    """Lower the sigmoids of experts with more than their share of tokens, raise those of the others.

    Dai et al., 2022 (arXiv:2204.08396), eq. 8, per token and without its factor 0.3: the sum over experts
    of (n_i - n) / n times the sigmoids of the n_i choices that went there, n the mean of all n_i.

    Args, Raises: as `load_balancing_loss`.

    Returns:
        Scalar float32, 0 when every expert is used equally.
    """
    losses = []
    for layer in _layers(router_logits, top_k, mask, choices):
        counts = layer.counts()
        excess = counts / counts.mean().clamp(min=1e-9) - 1  # (n_experts,)
        gates = layer.logits.gather(1, layer.experts).sigmoid() * layer.used
        losses.append((excess[layer.experts] * gates).sum() / layer.weights.sum().clamp(min=1))
    return torch.stack(losses).mean()


def router_z_loss(router_logits: Sequence[Tensor], *, mask: Tensor | None = None) -> Tensor:
    """Penalise large router logits: the mean square of their log-sum-exp.

    Zoph et al., 2022 (arXiv:2202.08906), eq. 5, averaged over layers; its coefficient there is 0.001.

    Args:
        router_logits: for each expert layer (n_tokens, n_experts), before the softmax.
        mask: (n_tokens,), non-zero on the tokens that count; all without it.

    Returns:
        Scalar float32, 0 where no token counts.

    Raises:
        ValueError: there is no layer.
    """
    layers = _layers(router_logits, 1, mask, None)
    return torch.stack([layer.mean(layer.logits.logsumexp(dim=-1).square()) for layer in layers]).mean()


def router_entropy_loss(router_logits: Sequence[Tensor], *, mask: Tensor | None = None) -> Tensor:
    """Penalise undecided routers: the mean entropy of their softmax.

    Huang et al., 2024 (arXiv:2403.07652), their dynamic loss for top-p routing, with coefficient 0.0001.

    Args, Raises: as `router_z_loss`.

    Returns:
        Scalar float32, in nats.
    """
    losses = []
    for layer in _layers(router_logits, 1, mask, None):
        logs = layer.logits.log_softmax(dim=-1)
        losses.append(layer.mean(-(logs.exp() * logs).sum(dim=-1)))
    return torch.stack(losses).mean()


def distillation_loss(routings: Sequence[Routing], *, mask: Tensor | None = None) -> Tensor:
    """Teach light routers what the routers chose: the cross-entropy of the choice.

    Dai et al., 2022 (arXiv:2204.08396), eq. 10, per token and averaged over layers. Of several experts each
    counts by its share of the gates, so that the light router learns their order too.

    Args:
        routings: of each expert layer, with light logits.
        mask: (n_tokens,), non-zero on the tokens that count; all without it.

    Returns:
        Scalar float32; no gradient flows into the routers that were copied.

    Raises:
        ValueError: there is no layer, or one without light logits.
    """
    lights = [routing.light_logits for routing in routings if routing.light_logits is not None]
    if len(lights) < len(routings):
        raise ValueError("These routers have no light router that could learn.")
    losses = []
    for routing, layer in zip(routings, _layers(lights, 1, mask, None), strict=True):
        shares = (routing.gates / routing.gates.sum(dim=-1, keepdim=True)).detach()
        logs = layer.logits.log_softmax(dim=-1).gather(1, routing.experts)  # (n_tokens, top_k)
        losses.append(layer.mean(-(shares * logs).sum(dim=-1)))
    return torch.stack(losses).mean()


BALANCE_LOSSES: dict[str, BalanceLoss] = {
    "megablocks": load_balancing_loss,
    "switch": switch_loss,
    "gshard": gshard_loss,
    "stable": overload_loss,
}
"""Balance losses by name; all are called with (router_logits, top_k=, mask=, choices=)."""


def auxiliary_losses(
    routings: Sequence[Routing], config: NomicConfig, *, mask: Tensor | None = None
) -> dict[str, Tensor]:
    """The losses that a config asks for beside the task's, each times its coefficient; training adds all.

    A frozen router (stage 2 of `stable`) has none, as in its paper.

    Args:
        routings: of each expert layer.
        config: says which losses, by coefficients above 0.
        mask: (n_tokens,) or (batch, length), non-zero on real tokens; all count without it.

    Returns:
        `balance`, `z`, `entropy` and `distillation`, as far as they are asked for: scalars in float32.
    """
    if not routings or config.router_stage == 2:
        return {}
    logits = [routing.logits for routing in routings]
    losses = {}
    if config.router_aux_loss_coef:
        balance = BALANCE_LOSSES[config.balance_loss]
        choices = Choices([routing.experts for routing in routings], [routing.gates for routing in routings])
        loss = balance(logits, top_k=config.moe_top_k, mask=mask, choices=choices)
        losses["balance"] = config.router_aux_loss_coef * loss
    if config.router_z_loss_coef:
        losses["z"] = config.router_z_loss_coef * router_z_loss(logits, mask=mask)
    if config.router_entropy_coef:
        losses["entropy"] = config.router_entropy_coef * router_entropy_loss(logits, mask=mask)
    if config.router_distillation_coef and config.router == "stable":
        losses["distillation"] = config.router_distillation_coef * distillation_loss(routings, mask=mask)
    return losses


class _Layer(NamedTuple):
    """One layer's logits (n_tokens, n_experts), experts and their use (n_tokens, top_k), tokens' weights."""

    logits: Tensor
    experts: Tensor
    used: Tensor
    weights: Tensor

    def counts(self) -> Tensor:
        """How many choices went to each expert, (n_experts,)."""
        hot = F.one_hot(self.experts, self.logits.shape[-1]) * self.used.unsqueeze(-1)
        return hot.sum(dim=(0, 1))

    def mean(self, values: Tensor) -> Tensor:
        """The mean of (n_tokens,) values over the tokens that count."""
        return (values * self.weights).sum() / self.weights.sum().clamp(min=1)


def _layers(
    router_logits: Sequence[Tensor], top_k: int, mask: Tensor | None, choices: Choices | None
) -> list[_Layer]:
    """Each layer in float32, with weights 1 on the tokens that count and 0 on the others."""
    if not len(router_logits):
        raise ValueError("There are no router logits: the model has no expert layers.")
    n_experts = router_logits[0].shape[-1]
    if not 1 <= top_k <= n_experts:
        raise ValueError(f"top_k must be between 1 and {n_experts} (n_experts), got {top_k}.")
    layers = []
    for number, logits in enumerate(router_logits):
        logits = logits.float()
        weights = torch.ones_like(logits[:, 0]) if mask is None else mask.flatten().bool().float()
        if choices is None:
            experts = logits.topk(top_k, dim=-1).indices
            used = torch.ones_like(experts, dtype=torch.bool)
        else:
            experts = choices.experts[number][:, :top_k]
            used = choices.gates[number][:, :top_k] != 0
        layers.append(_Layer(logits, experts, used * weights.unsqueeze(-1), weights))
    return layers


def _share_times_probability(layer: _Layer) -> Tensor:
    """n_experts * sum over experts of the share of choices times the mean probability."""
    counts = layer.counts()
    share = counts / counts.sum().clamp(min=1)
    probs = layer.logits.softmax(dim=-1) * layer.weights.unsqueeze(-1)
    mean = probs.sum(dim=0) / layer.weights.sum().clamp(min=1)
    return len(counts) * (share * mean).sum()
