"""Routers that give one token more experts than another; slots that a token does not need have gate 0."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routing import Router, Routing, RoutingContext


class TopPRouter(Router):
    """As few of the likeliest experts as hold the probability `router_top_p`, and at most `top_k`.

    Huang et al., 2024 (arXiv:2403.07652): the first t experts in order of probability, t the least number
    whose probabilities sum to p; the gates are those probabilities. They keep the softmax from
    spreading, which would take all experts, by their dynamic loss, our `router_entropy_loss`. Here
    `top_k` bounds the work of a token. The logits are those before the softmax.

    With `normalize_gates` a lone expert has gate 1, whatever its probability: such tokens teach the router
    by the auxiliary losses only.
    """

    def __init__(self, config: NomicConfig) -> None:
        super().__init__(config)
        self.p = config.router_top_p
        self.layer = nn.Linear(config.hidden_size, config.num_experts, bias=False)

    def route(self, x: Tensor, context: RoutingContext | None) -> Routing:
        """Route tokens whose states are float32."""
        del context
        logits = F.linear(x, self.layer.weight.float())
        probs, experts = logits.softmax(dim=-1).topk(self.top_k, dim=-1)
        ahead = F.pad(probs.cumsum(dim=-1)[:, :-1], (1, 0))  # what the experts before each hold together
        return Routing(logits, experts, self.shared_out(probs * (ahead < self.p)))


class StratifiedRouter(Router):
    """Experts in `top_k` strata; a token takes one in each stratum that it does not skip.

    Xu et al., 2023 (arXiv:2305.02176): the gate of stratum i sees the experts of its own stratum and of all
    later ones. The token goes to the likeliest, and from there to the gate of the next stratum, until it has
    been in the last one: to 1 expert or up to `top_k`. A gate is the probability among the experts seen.

    In the paper a token's experts run one after the other, each with norm and residual; here they all see
    the same state and their outputs are summed, so that one dispatch serves them all and upcycling can
    be exact. Since the state stays the same on the way, so does the gates' matrix: the paper has one
    for each stratum. The logits are those before the softmax over all experts; the first choice is the
    first gate's, so the balance loss `switch` is the paper's (eq. 8) of that gate. Even use of all slots is
    not to be had, for every token ends in the last stratum.
    """

    def __init__(self, config: NomicConfig) -> None:
        super().__init__(config)
        self.layer = nn.Linear(config.hidden_size, config.num_experts, bias=False)

    def route(self, x: Tensor, context: RoutingContext | None) -> Routing:
        """Route tokens whose states are float32."""
        del context
        logits = F.linear(x, self.layer.weight.float())
        size = self.n_experts // self.top_k  # experts in a stratum
        stratum_of = torch.arange(self.n_experts, device=x.device) // size
        start = torch.zeros(len(x), 1, dtype=torch.long, device=x.device)  # the stratum of each token's gate
        free = torch.ones_like(logits, dtype=torch.bool)
        experts, gates = [], []
        for _ in range(self.top_k):
            on_the_way = start < self.top_k
            # Tokens that are through fill their slots with experts that they do not have yet, at gate 0.
            seen = torch.where(on_the_way, stratum_of >= start, free)  # (n_tokens, n_experts)
            probs = logits.masked_fill(~seen, float("-inf")).softmax(dim=-1)
            gate, expert = probs.max(dim=-1, keepdim=True)
            experts.append(expert)
            gates.append(gate * on_the_way)
            free = free.scatter(1, expert, False)
            start = torch.where(on_the_way, stratum_of[expert] + 1, start)
        return Routing(logits, torch.cat(experts, dim=1), self.shared_out(torch.cat(gates, dim=1)))
