"""Routers: which experts a token goes to, and how much each counts.

A router returns a `Routing`; the experts know nothing of how it came about. All arithmetic is float32,
also under autocast: near-ties decide which expert runs, and bfloat16 cannot hold them.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.errors import InputError
from mretrieve.models.nomic_config import NomicConfig


class Routing(NamedTuple):
    """Where tokens go.

    `logits` is (n_tokens, n_experts) float32 before the softmax; `experts` (n_tokens, top_k) int64, best
    first; `gates` (n_tokens, top_k) float32, the weight of each chosen expert's output.
    """

    logits: Tensor
    experts: Tensor
    gates: Tensor


class SoftmaxRouter(nn.Module):
    """The `top_k` largest of a softmax over all experts (Shazeer et al., 2017, arXiv:1701.06538).

    The gates are the softmax's own values, which sum to less than 1, as in the official model; with
    `normalize_gates` they are divided by their sum, as in Mixtral (Jiang et al., 2024, arXiv:2401.04088).
    """

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.top_k, self.normalize = config.moe_top_k, config.normalize_gates
        self.layer = nn.Linear(config.hidden_size, config.num_experts, bias=False)

    def forward(self, x: Tensor) -> Routing:
        """Route tokens.

        Args:
            x: (n_tokens, hidden), any float type.

        Returns:
            Logits, experts and gates.
        """
        with torch.autocast(x.device.type, enabled=False):
            logits = F.linear(x.float(), self.layer.weight.float())
        gates, experts = logits.softmax(dim=-1).topk(self.top_k, dim=-1)
        if self.normalize:
            gates = gates / gates.sum(dim=-1, keepdim=True)
        return Routing(logits, experts, gates)


ROUTERS: dict[str, type[SoftmaxRouter]] = {"softmax": SoftmaxRouter}
"""Routers by the name that the config's field `router` gives."""


def make_router(config: NomicConfig) -> SoftmaxRouter:
    """The router that a config asks for.

    Raises:
        InputError: its name is unknown; the known ones are listed.
    """
    if config.router not in ROUTERS:
        raise InputError(f"Unknown router '{config.router}'. Known: {', '.join(sorted(ROUTERS))}.")
    return ROUTERS[config.router](config)
