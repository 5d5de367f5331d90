"""NomicMoE: the NomicBert encoder with sparse expert layers, as in Nomic Embed v2.

Nussbaum & Duderstadt, 2025 (arXiv:2502.07972). Plain PyTorch; parameters have the names, shapes and
layout of the official file. Besides padded batches it takes packed ones, which hold no padding at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils.generic import ModelOutput

from mretrieve.errors import InputError
from mretrieve.models.attention import Attention, Layout, PackedLayout, PaddedLayout, rotary_for
from mretrieve.models.balance import auxiliary_losses
from mretrieve.models.experts import ExpertWeights, activation
from mretrieve.models.moe import MoEMLP
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_hub import NomicMoEConfig
from mretrieve.models.router_stable import StableRouter
from mretrieve.models.routers import ROUTERS, Router, Routing, RoutingContext


@dataclass
class NomicMoEOutput(ModelOutput):
    """What the encoder returns.

    `last_hidden_state` is (batch, length, hidden), or (n_tokens, hidden) of a packed batch.
    `hidden_states` holds the embeddings and each layer's output, if asked for. `router_logits`,
    `router_experts` and `router_gates` hold, for each expert layer, (n_tokens, n_experts) float32,
    (n_tokens, top_k) int64 and (n_tokens, top_k) float32, as `Routing` says: an expert with gate 0 was not
    used. A padded batch's tokens are its flattened (batch, length), padding included.

    `auxiliary_loss` is there in training mode: what the config wants added to the task's loss, over real
    tokens (the sum of `auxiliary_losses`).
    """

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    router_logits: tuple[Tensor, ...] | None = None
    router_experts: tuple[Tensor, ...] | None = None
    router_gates: tuple[Tensor, ...] | None = None
    auxiliary_loss: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """What the layers have to know of a batch beyond its states; the context only for routers that ask."""

    layout: Layout
    rotary: tuple[Tensor, Tensor] | None
    context: RoutingContext | None = None


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

    def forward(self, x: Tensor, context: RoutingContext | None = None) -> tuple[Tensor, None]:
        """(..., hidden) to the same; there is no routing to report."""
        del context
        return self.fc2(self.act(self.fc1(x))), None


class Layer(nn.Module):
    """Attention, then experts or a feed-forward network, each with its norm after the residual."""

    def __init__(self, config: NomicConfig, *, has_experts: bool) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MoEMLP(config) if has_experts else DenseMLP(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, x: Tensor, batch: Batch) -> tuple[Tensor, Routing | None]:
        """(..., hidden) to the same, and the routing if the layer has experts."""
        x = self.norm1(x + self.dropout(self.attn(x, batch.layout, batch.rotary)))
        y, routing = self.mlp(x, batch.context)
        return self.norm2(x + self.dropout(y)), routing


class Encoder(nn.Module):
    """All layers, one after the other.

    With `gradient_checkpointing`, which transformers sets, layers forget what they computed in training
    and compute it again for the gradients.
    """

    _gradient_checkpointing_func: Callable[..., Any]

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(
            Layer(config, has_experts=i in config.moe_layers) for i in range(config.num_hidden_layers)
        )
        self.gradient_checkpointing = False

    def forward(self, x: Tensor, batch: Batch, *, keep: bool) -> tuple[list[Tensor], list[Routing]]:
        """Normed embeddings to hidden states, and the routing of each expert layer.

        The states are those before and after each layer with `keep`, else the last one alone.
        """
        states, routings = [x], []
        for layer in self.layers:
            x, routing = self._run(layer, x, batch)
            states = [*states, x] if keep else [x]
            if routing is not None:
                routings.append(routing)
        return states, routings

    def _run(self, layer: nn.Module, x: Tensor, batch: Batch) -> tuple[Tensor, Routing | None]:
        if not (self.gradient_checkpointing and self.training):
            y, routing = layer(x, batch)
            return y, routing

        def flat(x: Tensor) -> tuple[Tensor | None, ...]:
            y, routing = layer(x, batch)
            return (y, *(routing or ()))

        # One flat tuple, because reentrant checkpointing lets no gradient through tensors further inside.
        y, *parts = self._gradient_checkpointing_func(flat, x)
        return y, Routing(*parts) if parts else None


class NomicMoEModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The encoder. Build it from a config, or with `load_nomic_moe` or `AutoModel` from a folder."""

    config_class = NomicMoEConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Layer"]

    def __init__(self, config: NomicMoEConfig) -> None:
        super().__init__(config)
        self.sizes = config.sizes
        self.embeddings = Embeddings(self.sizes)
        self.emb_ln = nn.LayerNorm(self.sizes.hidden_size, eps=self.sizes.layer_norm_eps)
        self.dropout = nn.Dropout(self.sizes.hidden_dropout)
        self.router_embeddings = None
        if self.sizes.moe_layers and self.sizes.router == "stable":
            self.router_embeddings = nn.Embedding(self.sizes.vocab_size, self.sizes.light_dim)
            self.router_embeddings.requires_grad_(self.sizes.router_stage == 1)
        self.encoder = Encoder(self.sizes)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Exchange the word embeddings."""
        assert isinstance(value, nn.Embedding)
        self.embeddings.word_embeddings = value

    def set_router_stage(self, stage: int) -> None:
        """Go to the other stage of the router `stable`; it is saved with the config.

        Args:
            stage: 1 to learn the routing, 2 to route by the frozen light routers. In 2 their parameters
                want no gradient: make the optimizer afterwards, or it may go on decaying them.

        Raises:
            InputError: there is no such stage, or another router.
        """
        self.sizes = replace(self.sizes, router_stage=stage)
        self.config.router_stage = stage
        if self.router_embeddings is not None:
            self.router_embeddings.requires_grad_(stage == 1)
        for module in self.modules():
            if isinstance(module, StableRouter):
                module.set_stage(stage)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        language_ids: Tensor | None = None,
        output_hidden_states: bool = False,
        return_dict: bool = True,
    ) -> NomicMoEOutput | tuple[Any, ...]:
        """Encode a padded batch.

        Args:
            input_ids: (batch, length) integers.
            attention_mask: (batch, length), 1 on real tokens; all are real without it.
            token_type_ids: (batch, length); all 0 without them.
            language_ids: (batch,), `NomicConfig.language_id` of each text, for the router `language`; other
                routers do not look at them.
            output_hidden_states: whether to keep every layer's output.
            return_dict: whether to return a `NomicMoEOutput` instead of its values as a tuple.

        Raises:
            InputError: texts longer than the model's positions allow, or not one language for each.
        """
        self._check_length(input_ids.shape[1])
        layout = PaddedLayout(attention_mask, shape=input_ids.shape, device=input_ids.device)
        context = None
        if self._needs_context:
            context = RoutingContext.padded(input_ids, attention_mask, language_ids)
        batch = self._batch(layout, context)
        x = self.embeddings(input_ids, token_type_ids, layout.positions)
        output = self._encode(x, batch, mask=attention_mask, keep=output_hidden_states)
        return output if return_dict else output.to_tuple()

    def forward_packed(
        self,
        input_ids: Tensor,
        lengths: Sequence[int],
        *,
        language_ids: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> NomicMoEOutput:
        """Encode texts that lie one after the other without padding.

        Args:
            input_ids: (n_tokens,) integers, text after text.
            lengths: tokens of each text; neighbours of equal length are computed together.
            language_ids: (n_texts,), as in `forward`.
            output_hidden_states: whether to keep every layer's output.

        Raises:
            InputError: a text is empty or too long, `lengths` do not sum to n_tokens, or there is not one
                language for each text.
        """
        if sum(lengths) != len(input_ids) or min(lengths, default=1) < 1:
            raise InputError(
                f"lengths must be positive and sum to the number of tokens, {len(input_ids)}, got sum "
                f"{sum(lengths)} and least {min(lengths, default=0)}."
            )
        self._check_length(max(lengths, default=0))
        layout = PackedLayout(lengths, device=input_ids.device)
        context = None
        if self._needs_context:
            context = RoutingContext.packed(input_ids, lengths, language_ids)
        batch = self._batch(layout, context)
        x = self.embeddings(input_ids, None, layout.positions)
        return self._encode(x, batch, mask=None, keep=output_hidden_states)

    @property
    def _needs_context(self) -> bool:
        return bool(self.sizes.moe_layers) and ROUTERS[self.sizes.router].needs_context

    def _batch(self, layout: Layout, context: RoutingContext | None) -> Batch:
        if context is not None and self.router_embeddings is not None:
            context = replace(context, light_table=self.router_embeddings.weight)
        return Batch(layout, rotary_for(layout, self.sizes), context)

    def _encode(self, x: Tensor, batch: Batch, *, mask: Tensor | None, keep: bool) -> NomicMoEOutput:
        """The embeddings, not yet normed, through all layers."""
        states, routings = self.encoder(self.dropout(self.emb_ln(x)), batch, keep=keep)
        loss = None
        if self.training and routings:
            losses = auxiliary_losses(routings, self.sizes, mask=mask)
            loss = sum(losses.values(), routings[0].logits.new_zeros(()))
        return NomicMoEOutput(
            last_hidden_state=states[-1],
            hidden_states=tuple(states) if keep else None,
            router_logits=tuple(routing.logits for routing in routings),
            router_experts=tuple(routing.experts for routing in routings),
            router_gates=tuple(routing.gates for routing in routings),
            auxiliary_loss=loss,
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
        elif isinstance(module, Router):
            module.reset(std)
        elif isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
