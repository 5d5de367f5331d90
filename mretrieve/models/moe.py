"""A router and its experts: what stands in the place of a feed-forward network in a sparse layer."""

from torch import Tensor, nn

from mretrieve.models.experts import Experts
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routers import Routing, make_router


class MoEMLP(nn.Module):
    """A router and its experts, in the place of a feed-forward network."""

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.router = make_router(config)
        self.experts = Experts(config)

    def forward(self, x: Tensor) -> tuple[Tensor, Routing]:
        """Route each token and sum its experts.

        Args:
            x: (..., hidden).

        Returns:
            As `x`, and the routing of the flattened tokens.
        """
        flat = x.reshape(-1, x.shape[-1])
        routing: Routing = self.router(flat)
        return self.experts(flat, routing).view_as(x), routing
