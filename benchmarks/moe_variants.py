"""The same encoder with other feed-forward networks, to compare NomicMoE with."""

import copy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from mretrieve.models.experts import Experts
from mretrieve.models.moe import MoEMLP
from mretrieve.models.nomic_moe import DenseMLP, NomicMoEModel
from mretrieve.models.routing import Routing


class TransformersExperts(nn.Module):
    """Experts computed by transformers' `grouped_mm`, from the same weights in the layout it wants.

    Its function reads the module's attributes; before it knew experts without a gate projection, it took
    `gate_up_proj` and `_apply_gate` for all.
    """

    has_gate = has_bias = has_post_expert_norm = is_transposed = _is_expert_parallel = False
    is_concatenated = True

    def __init__(self, experts: Experts) -> None:
        from transformers.integrations.moe import grouped_mm_experts_forward

        super().__init__()
        weights = experts.mlp
        if weights.b1 is not None:
            raise ValueError("transformers' experts are compared without biases.")
        self.grouped_mm = grouped_mm_experts_forward
        self.num_experts = weights.n_experts
        w1, w2 = (w.detach().view(weights.n_experts, -1, w.shape[1]) for w in (weights.w1, weights.w2))
        self.up_proj = nn.Parameter(w1.clone())  # (n_experts, ffn, hidden)
        self.down_proj = nn.Parameter(w2.transpose(1, 2).contiguous())  # (n_experts, hidden, ffn)
        self.bias = nn.Parameter(experts.bias.detach().clone())
        self.act_fn = weights.act

    @property
    def gate_up_proj(self) -> nn.Parameter:
        """The inner weights by their other name."""
        return self.up_proj

    def _apply_gate(self, x: Tensor) -> Tensor:
        return self.act_fn(x)

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        """As `Experts`."""
        found: Any = self.grouped_mm(self, x, routing.experts, routing.gates)
        summed: Tensor = found + self.bias
        return summed


def with_transformers_experts(model: NomicMoEModel) -> NomicMoEModel:
    """A copy whose experts are transformers'."""
    changed = copy.deepcopy(model)
    for layer in changed.encoder.layers:
        if isinstance(layer.mlp, MoEMLP):
            layer.mlp.experts = cast(Experts, TransformersExperts(layer.mlp.experts))
    return changed


def with_dense_layers(model: NomicMoEModel) -> NomicMoEModel:
    """A copy with one wide network in the place of experts: as wide as those that a token goes through."""
    changed = copy.deepcopy(model)
    wide = replace(model.sizes, intermediate_size=model.sizes.intermediate_size * model.sizes.moe_top_k)
    for number in model.sizes.moe_layers:
        like = changed.emb_ln.weight
        with torch.device(like.device):
            dense = DenseMLP(wide).to(like.dtype)
        with torch.no_grad():
            for parameter in dense.parameters():
                parameter.normal_(std=model.sizes.initializer_range)
        changed.encoder.layers[number].mlp = dense
    return changed
