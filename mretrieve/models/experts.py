"""Expert layers: many feed-forward networks, of which each token passes through a few.

Fedus et al., 2021 (arXiv:2101.03961); without capacity and dropped tokens as in MegaBlocks (Gale et al.,
2022, arXiv:2211.15841). How tokens meet their experts is a strategy of `mretrieve.models.dispatch`, which
can be exchanged; all of them compute the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.dispatch import Activation, Dispatch, ExpertPart, dispatch_auto
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routing import Routing


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


class Experts(nn.Module):
    """Routed experts and one bias that all tokens get once, unweighted."""

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.mlp = ExpertWeights(config)
        self.bias = nn.Parameter(torch.zeros(config.hidden_size))
        self.dispatch: Dispatch = dispatch_auto

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """(n_tokens, hidden) to (n_tokens, hidden)."""
        return self.dispatch(x, self.mlp, routing) + self.bias
