"""StableMoE's router: learned first, then replaced in its decisions by a frozen copy that sees words only.

Dai et al., 2022 (arXiv:2204.08396). While a model trains, the same token goes now to this expert, now to
that; a frozen router ends that, and one that knows nothing of the states cannot drift with them.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routing import Router, Routing, RoutingContext


class StableRouter(Router):
    """Two stages: the config's `router_stage`, which `NomicMoEModel.set_router_stage` changes.

    In stage 1 the scores s = E h (eq. 5) choose, and the light router's scores, of the token's word
    embedding alone (eq. 9), learn the choice by `distillation_loss` (eq. 10). In stage 2 the light router
    chooses (eq. 13), frozen: nothing flows back into it. In both stages the gates are sigmoid(s) of the
    chosen experts (eqs. 7, 14), so that E goes on learning how much they count. The stage alone decides
    which router chooses; training and evaluation do the same.

    The logits are those of the router that chooses: s in stage 1; the light router's in stage 2, where
    no balance loss is wanted (eq. 15). The light router's embeddings belong to the model, which shares one
    table among its layers; the paper's models have one or two sparse layers.
    """

    needs_context = True

    def __init__(self, config: NomicConfig) -> None:
        super().__init__(config)
        self.layer = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.light = nn.Linear(config.light_dim, config.num_experts, bias=False)
        self.stage = 1
        self.set_stage(config.router_stage)

    def set_stage(self, stage: int) -> None:
        """1 to learn, 2 to route by the frozen light router."""
        self.stage = stage
        self.light.requires_grad_(stage == 1)

    def route(self, x: Tensor, context: RoutingContext | None) -> Routing:
        """Route tokens whose states are float32."""
        context = self.context_of(context)
        assert context.light_table is not None  # the model has one for this router
        words = F.embedding(context.input_ids, context.light_table).float()
        scores = F.linear(x, self.layer.weight.float())  # (n_tokens, n_experts)
        # Detached too, because loading a checkpoint may make every parameter trainable.
        light = F.linear(words, self.light.weight.float())
        choosing = scores if self.stage == 1 else light.detach()
        experts = choosing.topk(self.top_k, dim=-1).indices
        gates = self.shared_out(scores.gather(1, experts).sigmoid())
        return Routing(choosing, experts, gates, light if self.stage == 1 else None)
