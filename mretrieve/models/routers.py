"""Routers: which experts a token goes to, and how much each counts.

A router returns a `Routing`; the experts know nothing of how it came about. `ROUTERS` names them all.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.router_dynamic import StratifiedRouter, TopPRouter
from mretrieve.models.router_stable import StableRouter
from mretrieve.models.router_text import LanguageRouter, SequenceRouter
from mretrieve.models.router_xmoe import HypersphereRouter
from mretrieve.models.routing import Router, Routing, RoutingContext

__all__ = ["ROUTERS", "Router", "Routing", "RoutingContext", "SoftmaxRouter", "make_router"]


class SoftmaxRouter(Router):
    """The `top_k` largest of a softmax over all experts (Shazeer et al., 2017, arXiv:1701.06538).

    The gates are the softmax's own values, which sum to less than 1, as in the official model; with
    `normalize_gates` they are divided by their sum, as in Mixtral (Jiang et al., 2024, arXiv:2401.04088).
    The logits are those before the softmax.
    """

    def __init__(self, config: NomicConfig) -> None:
        super().__init__(config)
        self.layer = nn.Linear(config.hidden_size, config.num_experts, bias=False)

    def route(self, x: Tensor, context: RoutingContext | None) -> Routing:
        """Route tokens whose states are float32."""
        del context
        logits = F.linear(x, self.layer.weight.float())
        gates, experts = logits.softmax(dim=-1).topk(self.top_k, dim=-1)
        return Routing(logits, experts, self.shared_out(gates))


ROUTERS: dict[str, type[Router]] = {
    "softmax": SoftmaxRouter,
    "xmoe": HypersphereRouter,
    "stable": StableRouter,
    "sequence": SequenceRouter,
    "language": LanguageRouter,
    "top_p": TopPRouter,
    "stratified": StratifiedRouter,
}
"""Routers by the name that the config's field `router` gives."""


def make_router(config: NomicConfig) -> Router:
    """The router that a config asks for."""
    return ROUTERS[config.router](config)
