"""NomicMoE: the NomicBert encoder with sparse expert layers, as in Nomic Embed v2.

Nussbaum & Duderstadt, 2025 (arXiv:2502.07972). Plain PyTorch; parameters have the names, shapes and
layout of the official file. Besides padded batches it takes packed ones, which hold no padding at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from mretrieve.errors import InputError
from mretrieve.models.attention import Attention, Layout, PackedLayout, PaddedLayout, rotary_for
from mretrieve.models.experts import ExpertWeights, activation
from mretrieve.models.moe import MoEMLP
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.routers import Routing


@dataclass
class NomicMoEOutput(ModelOutput):
    """What the encoder returns.

    `last_hidden_state` is (batch, length, hidden), or (n_tokens, hidden) of a packed batch.
    `hidden_states` holds the embeddings and each layer's output, if asked for. `router_logits` and
    `router_experts` hold, for each expert layer, (n_tokens, n_experts) float32 and (n_tokens, top_k)
    int64; a padded batch's tokens are its flattened (batch, length), padding included.
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    router_logits: tuple[Tensor, ...] | None = None
    router_experts: tuple[Tensor, ...] | None = None


class Embeddings(nn.Module):
    """Words, token types and, in the `absolute` variant, learned positions; not yet normed."""

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.position_embeddings = None
        if config.position_embedding_type == "absolute":
            self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids: Tensor, token_types: Tensor | None, positions: Tensor) -> Tensor:
        """Look up: each argument as (batch, length) or (n_tokens,); adds a last dimension."""
        types = self.token_type_embeddings.weight[0] if token_types is None else None
        x: Tensor = self.word_embeddings(input_ids)
        x = x + (self.token_type_embeddings(token_types) if types is None else types)
        if self.position_embeddings is None:
            return x
        placed: Tensor = x + self.position_embeddings(positions + self.config.first_position)
        return placed


class DenseMLP(nn.Module):
    """The ordinary feed-forward network of the layers without experts."""

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.fc1_bias)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.fc2_bias)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(..., hidden) to the same; there is no routing to report."""
        return self.fc2(self.act(self.fc1(x))), None


class Layer(nn.Module):
    """Attention, then experts or a feed-forward network, each with its norm after the residual."""

    def __init__(self, config: NomicConfig, *, has_experts: bool) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MoEMLP(config) if has_experts else DenseMLP(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, x: Tensor, layout: Layout, rotary: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Routing | None]:
        """(..., hidden) to the same, and the routing if the layer has experts."""
        x = self.norm1(x + self.attn(x, layout, rotary))
        y, routing = self.mlp(x)
        return self.norm2(x + y), routing


class Encoder(nn.Module):
    """All layers, one after the other."""

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            Layer(config, has_experts=i in config.moe_layers) for i in range(config.num_hidden_layers)
        )

    def forward(self, x: Tensor, layout: Layout, *, keep: bool) -> tuple[list[Tensor], list[Routing]]:
        """Normed embeddings to hidden states, and the routing of each expert layer.

        The states are those before and after each layer with `keep`, else the last one alone.
        """
        rotary = rotary_for(layout, self.config)
        states, routings = [x], []
        for layer in self.layers:
            x, routing = layer(x, layout, rotary)
            states = [*states, x] if keep else [x]
            if routing is not None:
                routings.append(routing)
        return states, routings


class NomicMoEModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The encoder. Build it from a config, or with `load_nomic_moe` or `AutoModel` from a folder."""

    config_class = NomicMoEConfig
    base_model_prefix = ""
    _supports_sdpa = True
    _no_split_modules = ["Layer"]

    def __init__(self, config: NomicMoEConfig) -> None:
        super().__init__(config)
        self.sizes = config.sizes
        self.embeddings = Embeddings(self.sizes)
        self.emb_ln = nn.LayerNorm(self.sizes.hidden_size, eps=self.sizes.layer_norm_eps)
        self.encoder = Encoder(self.sizes)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Exchange the word embeddings."""
        assert isinstance(value, nn.Embedding)
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> NomicMoEOutput | tuple[Any, ...]:
        """Encode a padded batch.

        Args:
            input_ids: (batch, length) integers.
            attention_mask: (batch, length), 1 on real tokens; all are real without it.
            token_type_ids: (batch, length); all 0 without them.
            output_hidden_states: whether to keep every layer's output.
            return_dict: whether to return a `NomicMoEOutput` instead of its values as a tuple.

        Raises:
            InputError: texts longer than the model's positions allow.
        """
        layout = PaddedLayout(attention_mask, shape=input_ids.shape, device=input_ids.device)
        self._check_length(input_ids.shape[1])
        output = self._encode(input_ids, token_type_ids, layout, keep=output_hidden_states)
        return output if return_dict else output.to_tuple()

    def forward_packed(
        self, input_ids: Tensor, lengths: Sequence[int], *, output_hidden_states: bool = False
    ) -> NomicMoEOutput:
        """Encode texts that lie one after the other without padding.

        Args:
            input_ids: (n_tokens,) integers, text after text.
            lengths: tokens of each text; neighbours of equal length are computed together.
            output_hidden_states: whether to keep every layer's output.

        Raises:
            InputError: a text is empty or too long, or `lengths` do not sum to n_tokens.
        """
        if sum(lengths) != len(input_ids) or min(lengths, default=1) < 1:
            raise InputError(
                f"lengths must be positive and sum to the number of tokens, {len(input_ids)}, got sum "
                f"{sum(lengths)} and least {min(lengths, default=0)}."
            )
        self._check_length(max(lengths, default=0))
        layout = PackedLayout(lengths, device=input_ids.device)
        return self._encode(input_ids, None, layout, keep=output_hidden_states)

    def _encode(
        self, input_ids: Tensor, token_types: Tensor | None, layout: Layout, *, keep: bool
    ) -> NomicMoEOutput:
        x = self.emb_ln(self.embeddings(input_ids, token_types, layout.positions))
        states, routings = self.encoder(x, layout, keep=keep)
        return NomicMoEOutput(
            last_hidden_state=states[-1],
            hidden_states=tuple(states) if keep else None,
            router_logits=tuple(routing.logits for routing in routings),
            router_experts=tuple(routing.experts for routing in routings),
        )

    def _check_length(self, length: int) -> None:
        if length > self.sizes.max_length:
            raise InputError(
                f"A text of {length} tokens is longer than the {self.sizes.max_length} that this model's "
                "positions allow: cut it."
            )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fresh weights as in the official code: normal with the config's spread, biases 0, norms 1."""
        std = self.sizes.initializer_range
        if isinstance(module, ExpertWeights):
            nn.init.normal_(module.w1, std=std)
            nn.init.normal_(module.w2, std=std)
            if module.b1 is not None:
                nn.init.zeros_(module.b1)
        elif isinstance(module, MoEMLP):
            nn.init.zeros_(module.experts.bias)
        elif isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
