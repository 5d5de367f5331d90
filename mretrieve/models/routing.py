"""What routers have in common: the routing that they return, what they may know of a batch, their base.

All arithmetic of routers is float32, also under autocast: near-ties decide which expert runs, and bfloat16
cannot hold them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from mretrieve.errors import InputError
from mretrieve.models.nomic_config import NomicConfig


class Routing(NamedTuple):
    """Where tokens go.

    `logits` is (n_tokens, n_experts) float32: what the balance losses are taken over; each router says what
    it means. `experts` is (n_tokens, top_k) int64, in the order of choice; a token's experts are all
    different. `gates` (n_tokens, top_k) float32 is the weight of each expert's output. A slot whose gate is
    exactly 0 is not used: it adds nothing, and its expert need not run. `light_logits`, (n_tokens,
    n_experts) float32, is there only while a light router learns from this routing.
    """

    logits: Tensor
    experts: Tensor
    gates: Tensor
    light_logits: Tensor | None = None


@dataclass(frozen=True)
class RoutingContext:
    """What routers may know of a batch beyond the tokens' states; made once for all layers.

    Make one with `padded` or `packed`. Texts lie one after the other in the flattened tokens, so
    `text_of_token` rises.

    Attributes:
        groups: (length, number) of neighbouring texts of equal length, padding included.
        text_of_token: (n_tokens,) int64, the text that a token belongs to; padding belongs to its row's.
        token_weights: (n_tokens,) float32, one over the text's length on real tokens, 0 on padding.
        input_ids: (n_tokens,) integers.
        language_ids: (n_texts,) int64, or None where nobody gave them.
        light_table: (vocab, dim), the embeddings that light routers see, where there are any. Each layer
            looks its tokens up, so that a layer computed anew for its gradients finds a parameter here.
    """

    groups: Sequence[tuple[int, int]]
    text_of_token: Tensor
    token_weights: Tensor
    input_ids: Tensor
    language_ids: Tensor | None = None
    light_table: Tensor | None = None

    @classmethod
    def padded(
        cls, input_ids: Tensor, mask: Tensor | None, language_ids: Tensor | None = None
    ) -> "RoutingContext":
        """The context of a padded batch.

        Args:
            input_ids: (batch, length).
            mask: (batch, length), non-zero on real tokens; all are real without it.
            language_ids: (batch,).

        Raises:
            InputError: there is not one language for each text.
        """
        n, length = input_ids.shape
        real = torch.ones_like(input_ids) if mask is None else mask.bool()
        weights = real.float() / real.sum(dim=1, keepdim=True).clamp(min=1)
        texts = torch.arange(n, device=input_ids.device).unsqueeze(1).expand(n, length)
        return cls(
            groups=((length, n),),
            text_of_token=texts.flatten(),
            token_weights=weights.flatten(),
            input_ids=input_ids.flatten(),
            language_ids=_one_each(language_ids, n),
        )

    @classmethod
    def packed(
        cls, input_ids: Tensor, lengths: Sequence[int], language_ids: Tensor | None = None
    ) -> "RoutingContext":
        """The context of a packed batch.

        Args:
            input_ids: (n_tokens,), text after text.
            lengths: tokens of each text.
            language_ids: (n_texts,).

        Raises:
            InputError: there is not one language for each text.
        """
        sizes = torch.tensor(lengths, dtype=torch.long, device=input_ids.device)
        numbers = torch.arange(len(lengths), device=input_ids.device)
        # The size is named so that a GPU need not be asked for it.
        texts = torch.repeat_interleave(numbers, sizes, output_size=len(input_ids))
        return cls(
            groups=[(length, len(list(group))) for length, group in groupby(lengths)],
            text_of_token=texts,
            token_weights=1 / sizes.float()[texts],
            input_ids=input_ids,
            language_ids=_one_each(language_ids, len(lengths)),
        )

    @property
    def n_texts(self) -> int:
        """How many texts the batch holds."""
        return sum(n for _, n in self.groups)

    def mean_of_texts(self, x: Tensor) -> Tensor:
        """Each text's mean over its real tokens: (n_tokens, hidden) to (n_texts, hidden).

        Sums are taken over views and not scattered, so that they come out the same every time on a GPU too.
        """
        weighted = x * self.token_weights.unsqueeze(-1)
        sums, start = [], 0
        for length, n in self.groups:
            rows = weighted[start : start + n * length]
            sums.append(rows.view(n, length, -1).sum(dim=1))
            start += n * length
        return torch.cat(sums) if sums else x.new_zeros(0, x.shape[-1])


class Router(nn.Module, ABC):
    """Chooses experts for tokens.

    Subclasses write `route`. Those that need to know more than the tokens' states set `needs_context`; for
    all others no context is made.
    """

    needs_context: ClassVar[bool] = False

    def __init__(self, config: NomicConfig) -> None:
        super().__init__()
        self.n_experts, self.top_k = config.num_experts, config.moe_top_k
        self.normalize = config.normalize_gates

    def forward(self, x: Tensor, context: RoutingContext | None = None) -> Routing:
        """Route tokens.

        Args:
            x: (n_tokens, hidden), any float type.
            context: of the batch, for routers that need one.
        """
        with torch.autocast(x.device.type, enabled=False):
            return self.route(x.float(), context)

    @abstractmethod
    def route(self, x: Tensor, context: RoutingContext | None) -> Routing:
        """Route tokens whose states are float32."""

    @torch.no_grad()
    def reset(self, std: float, generator: torch.Generator | None = None) -> None:
        """Fill the parameters with fresh normal values, drawn from `generator` with the spread `std`."""
        for parameter in self.parameters():
            parameter.normal_(std=std, generator=generator)

    def shared_out(self, gates: Tensor) -> Tensor:
        """The gates (..., top_k), divided by their sum if the config says so; slots at 0 stay there."""
        if not self.normalize:
            return gates
        shares: Tensor = gates / gates.sum(dim=-1, keepdim=True)
        return shares

    @staticmethod
    def context_of(context: RoutingContext | None) -> RoutingContext:
        """The context, for routers that cannot do without.

        Raises:
            ValueError: there is none.
        """
        if context is None:
            raise ValueError("This router has to know the texts of the batch: give it a RoutingContext.")
        return context


def _one_each(language_ids: Tensor | None, n_texts: int) -> Tensor | None:
    if language_ids is not None and language_ids.shape != (n_texts,):
        raise InputError(
            f"language_ids must hold one id for each of the {n_texts} texts, got shape "
            f"{tuple(language_ids.shape)}."
        )
    return language_ids
