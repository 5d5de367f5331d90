"""X-MoE's router: cosines between tokens and experts in few dimensions.

Chi et al., 2022 (arXiv:2204.09179). Routing by dot products pulls the tokens' states towards the few
expert embeddings; on a hypersphere of few dimensions that pull is weaker, and routing steadier.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routing import Router, Routing, RoutingContext

_NORM = 0.1  # of fresh expert embeddings; section 3.1, "Implementation Tips"


class HypersphereRouter(Router):
    """Scores s_i = (W h) . e_i / (|W h| |e_i|) (eq. 7), gates softmax(s / t) with a learned t (eq. 8).

    W maps to `router_dim` dimensions, n_experts / 2 by default as in the paper. The logits are s / t0 with
    the fixed temperature t0, `router_temperature`, over which the paper takes its balance loss (eq. 9); the
    learned t starts there. The length of an expert's embedding has no part in the scores, but a step of
    training turns a long one less: the paper holds it at 0.1, where ours starts.
    """

    def __init__(self, config: NomicConfig) -> None:
        super().__init__(config)
        # In one dimension a cosine is 1 or -1 and has no gradient.
        dim = config.router_dim or max(config.num_experts // 2, 2)
        self.fixed_temperature = config.router_temperature
        self.projection = nn.Linear(config.hidden_size, dim, bias=False)
        self.experts = nn.Parameter(torch.empty(config.num_experts, dim))
        # Its logarithm is learned, so that it stays above 0.
        self.log_temperature = nn.Parameter(torch.empty(1))

    def route(self, x: Tensor, context: RoutingContext | None) -> Routing:
        """Route tokens whose states are float32."""
        del context
        tokens = F.normalize(F.linear(x, self.projection.weight.float()), dim=-1)
        scores = F.linear(tokens, F.normalize(self.experts.float(), dim=-1))  # (n_tokens, n_experts)
        probs = (scores / self.log_temperature.float().exp()).softmax(dim=-1)
        gates, experts = probs.topk(self.top_k, dim=-1)
        return Routing(scores / self.fixed_temperature, experts, self.shared_out(gates))

    @torch.no_grad()
    def reset(self, std: float, generator: torch.Generator | None = None) -> None:
        """Random directions; experts at the paper's length."""
        self.projection.weight.normal_(std=std, generator=generator)
        self.experts.normal_(generator=generator)
        self.experts.mul_(_NORM / self.experts.norm(dim=-1, keepdim=True))
        self.log_temperature.fill_(math.log(self.fixed_temperature))
