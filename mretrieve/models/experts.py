"""Expert layers: many feed-forward networks, of which each token passes through a few.

Fedus et al., 2021 (arXiv:2101.03961); without capacity and dropped tokens as in MegaBlocks (Gale et al.,
2022, arXiv:2211.15841). How tokens meet their experts is a strategy that can be exchanged; all of them
compute the same.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routers import Routing

Activation = Callable[[Tensor], Tensor]
ExpertPart = tuple[Tensor, Tensor, Tensor | None]


def activation(name: str) -> Activation:
    """The activation of a checked config: `gelu` is the exact one, by the error function."""
    if name == "relu":
        return F.relu
    return lambda x: F.gelu(x, approximate="tanh" if name == "gelu_pytorch_tanh" else "none")


class ExpertWeights(nn.Module):
    """All experts' weights in the official layout.

    `w1` and `w2` are (n_experts * ffn, hidden); expert e owns the rows from e * ffn on. `w1`'s part is
    used transposed, `w2`'s as it is. `b1` (n_experts * ffn) exists with `expert_biases` only.
    """

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.n_experts = config.num_experts
        rows = config.num_experts * config.intermediate_size
        self.w1 = nn.Parameter(torch.empty(rows, config.hidden_size))
        self.w2 = nn.Parameter(torch.empty(rows, config.hidden_size))
        self.b1 = nn.Parameter(torch.zeros(rows)) if config.expert_biases else None
        self.act = activation(config.hidden_act)

    def split(self) -> list[ExpertPart]:
        """Each expert's own (w1, w2, b1), as views: (ffn, hidden), (ffn, hidden), (ffn,) or None.

        One `unbind` for all, because the gradient of a slice per expert would be a whole `w1` each time.
        """
        w1 = self.w1.view(self.n_experts, -1, self.w1.shape[1]).unbind()
        w2 = self.w2.view(self.n_experts, -1, self.w2.shape[1]).unbind()
        b1 = [None] * self.n_experts if self.b1 is None else self.b1.view(self.n_experts, -1).unbind()
        return list(zip(w1, w2, b1, strict=True))

    def run(self, x: Tensor, part: ExpertPart) -> Tensor:
        """One expert's output, without gate and shared bias: (n, hidden) to (n, hidden)."""
        w1, w2, b1 = part
        # F.linear and not `@`, so that autocast treats both products alike.
        return F.linear(self.act(F.linear(x, w1, b1)), w2.t())


Dispatch = Callable[[Tensor, ExpertWeights, Routing], Tensor]
"""(n_tokens, hidden) tokens, weights and routing to the sums of gated outputs, (n_tokens, hidden)."""


def dispatch_sorted(x: Tensor, weights: ExpertWeights, routing: Routing) -> Tensor:
    """Sort the tokens by expert, run each expert once on its own, sort back.

    Exact: no capacity, no padding, no dropped token, and the sum over a token's experts is always taken
    in the same order, in float32. The counts are read on the host, so this one synchronises a GPU.
    """
    n_tokens, top_k = routing.experts.shape
    order = routing.experts.flatten().argsort(stable=True)  # (n_tokens * top_k,)
    counts = routing.experts.flatten().bincount(minlength=weights.n_experts).tolist()
    pieces = torch.split(x[order // top_k], counts)
    parts = zip(pieces, weights.split(), strict=True)
    outputs = [weights.run(piece, part) for piece, part in parts if len(piece)]
    if not outputs:
        return torch.zeros_like(x)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    chosen = torch.cat(outputs)[back].view(n_tokens, top_k, -1)
    return (chosen.float() * routing.gates.unsqueeze(-1)).sum(dim=1).to(x.dtype)


def dispatch_all(x: Tensor, weights: ExpertWeights, routing: Routing) -> Tensor:
    """Run every expert on every token and weigh with the gates, most of which are 0.

    Many times the work, but without any decision that depends on the data: for comparison.
    """
    gates = torch.zeros_like(routing.logits).scatter(1, routing.experts, routing.gates)
    total = torch.zeros_like(x, dtype=torch.float32)
    for number, part in enumerate(weights.split()):
        total = total + weights.run(x, part).float() * gates[:, number, None]
    return total.to(x.dtype)


DISPATCHES: dict[str, Dispatch] = {"sorted": dispatch_sorted, "all": dispatch_all}
"""Strategies by name; the values agree, the time does not."""


class Experts(nn.Module):
    """Routed experts and one bias that all tokens get once, unweighted."""

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.mlp = ExpertWeights(config)
        self.bias = nn.Parameter(torch.zeros(config.hidden_size))
        self.dispatch: Dispatch = dispatch_sorted

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """(n_tokens, hidden) to (n_tokens, hidden)."""
        return self.dispatch(x, self.mlp, routing) + self.bias
