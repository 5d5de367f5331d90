"""A router and its experts: what stands in the place of a feed-forward network in a sparse layer."""

import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.experts import Experts
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routers import Routing, RoutingContext, make_router


class MoEMLP(nn.Module):
    """A router and its experts, in the place of a feed-forward network.

    Two regularisers work in training only (Elbayad et al., 2022, arXiv:2212.07571), drawn from torch's own
    random numbers. Expert-output masking drops single experts of a token with the probability
    `expert_output_masking`, by way of their gates; final-output masking drops all that a token gets
    here, the shared bias too, so that only the residual is left. What remains is divided by the
    probability that it does; the authors' code multiplies by that in evaluation instead, which is the
    same proportion, but would change what a model computes that was not trained with masking.
    """

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.expert_masking, self.final_masking = config.expert_output_masking, config.final_output_masking
        self.router = make_router(config)
        self.experts = Experts(config)

    def forward(self, x: Tensor, context: RoutingContext | None = None) -> tuple[Tensor, Routing]:
        """Route each token and sum its experts.

        Args:
            x: (..., hidden).
            context: of the batch, for routers that need one.

        Returns:
            As `x`, and the routing of the flattened tokens as it was before any masking.
        """
        flat = x.reshape(-1, x.shape[-1])
        routing: Routing = self.router(flat, context)
        masked = routing
        if self.training and self.expert_masking:
            masked = routing._replace(gates=F.dropout(routing.gates, self.expert_masking))
        y = self.experts(flat, masked)
        if self.training and self.final_masking:
            y = y * F.dropout(y.new_ones(len(y), 1), self.final_masking)
        return y.view_as(x), routing
