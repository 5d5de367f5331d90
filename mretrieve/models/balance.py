"""Losses that keep routers of sparse expert layers from favouring a few experts, or from growing large.

The official load-balancing loss of Nomic Embed v2 (that of MegaBlocks) counts padding too, whose routing
depends on the attention kernel; give a mask to count real tokens only, as our training does.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BalanceLoss = Callable[..., Tensor]


def load_balancing_loss(router_logits: Sequence[Tensor], *, top_k: int, mask: Tensor | None = None) -> Tensor:
    """Penalise uneven use of experts, over all expert layers and all `top_k` choices.

    Gale et al., 2022 (arXiv:2211.15841), after Fedus et al., 2021 (arXiv:2101.03961), eq. 4:
    n_experts / (n_layers * n_tokens * top_k) * sum of counts times mean probabilities. The official total
    is this times the config's `router_aux_loss_coef`.

    Args:
        router_logits: for each expert layer (n_tokens, n_experts), before the softmax.
        top_k: experts chosen per token.
        mask: (n_tokens,), non-zero on the tokens that count; all without it.

    Returns:
        Scalar float32, 1.0 when every expert is used equally; no gradient flows through the counts. 0
        where no token counts.

    Raises:
        ValueError: there is no layer, or `top_k` is not between 1 and n_experts.
    """
    losses = []
    for logits in _real(router_logits, mask, top_k):
        probs = logits.softmax(dim=-1)  # (n_real, n_experts)
        losses.append(_loss(probs, probs.topk(top_k, dim=-1).indices))
    return torch.stack(losses).mean()


def switch_loss(router_logits: Sequence[Tensor], *, top_k: int, mask: Tensor | None = None) -> Tensor:
    """The same with the first choice alone counted (Fedus et al., 2021, arXiv:2101.03961, eq. 4).

    Args, Returns, Raises: as `load_balancing_loss`.
    """
    del top_k  # of the signature that all these losses share
    return load_balancing_loss(router_logits, top_k=1, mask=mask)


def gshard_loss(router_logits: Sequence[Tensor], *, top_k: int, mask: Tensor | None = None) -> Tensor:
    """Mean over experts of first-choice share times mean probability.

    Lepikhin et al., 2020 (arXiv:2006.16668), algorithm 1: the Switch loss divided by n_experts squared.

    Args, Raises: as `load_balancing_loss`.

    Returns:
        Scalar float32, 1 / n_experts ** 2 when every expert is used equally.
    """
    return switch_loss(router_logits, top_k=top_k, mask=mask) / router_logits[0].shape[-1] ** 2


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
    squares = [logits.logsumexp(dim=-1).square() for logits in _real(router_logits, mask, 1)]
    return torch.stack([square.sum() / max(len(square), 1) for square in squares]).mean()


BALANCE_LOSSES: dict[str, BalanceLoss] = {
    "megablocks": load_balancing_loss,
    "switch": switch_loss,
    "gshard": gshard_loss,
}
"""Balance losses by name; all are called with (router_logits, top_k=, mask=)."""


def _real(router_logits: Sequence[Tensor], mask: Tensor | None, top_k: int) -> list[Tensor]:
    """The logits of the tokens that count, in float32, for each layer."""
    if not len(router_logits):
        raise ValueError("There are no router logits: the model has no expert layers.")
    n_experts = router_logits[0].shape[-1]
    if not 1 <= top_k <= n_experts:
        raise ValueError(f"top_k must be between 1 and {n_experts} (n_experts), got {top_k}.")
    chosen = slice(None) if mask is None else mask.flatten().bool()
    return [logits[chosen].float() for logits in router_logits]


def _loss(probs: Tensor, experts: Tensor) -> Tensor:
    """n_experts * sum over experts of the share of choices times the mean probability."""
    n_tokens, n_experts = probs.shape
    counts = F.one_hot(experts, n_experts).sum(dim=(0, 1)).float()  # (n_experts,)
    share = counts / max(experts.numel(), 1)
    return n_experts * (share * probs.sum(dim=0) / max(n_tokens, 1)).sum()
