"""Routers that send a whole text to the same experts, by its content or by its language.

Kudugunta et al., 2021 (arXiv:2110.03742), where the second is task-level routing with languages as tasks:
the experts of one language can be taken out of the model and used alone.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.routing import Router, Routing, RoutingContext


class SequenceRouter(Router):
    """A softmax over experts of the mean of the text's real tokens, and its `top_k` largest for them all.

    The logits are the text's, before the softmax, repeated for each of its tokens: in balance losses a text
    counts by its length, as the work that it makes does.
    """

    needs_context = True

    def __init__(self, config: NomicConfig) -> None:
        super().__init__(config)
        self.layer = nn.Linear(config.hidden_size, config.num_experts, bias=False)

    def route(self, x: Tensor, context: RoutingContext | None) -> Routing:
        """Route tokens whose states are float32."""
        context = self.context_of(context)
        logits = F.linear(context.mean_of_texts(x), self.layer.weight.float())  # (n_texts, n_experts)
        return _for_all_tokens(self, logits, context)


class LanguageRouter(Router):
    """A learned row of logits for each language, their softmax, and its `top_k` largest for the whole text.

    Row 0 stands for texts of unknown language: those with an id that the config's `languages` do not have,
    and all texts where no ids are given. It learns from such texts, and from the share `language_dropout`
    of all others, whose language is withheld in training. The logits are the row, repeated for each token.
    """

    needs_context = True

    def __init__(self, config: NomicConfig) -> None:
        super().__init__(config)
        self.dropout = config.language_dropout
        self.languages = nn.Embedding(len(config.languages) + 1, config.num_experts)

    def route(self, x: Tensor, context: RoutingContext | None) -> Routing:
        """Route tokens; their states do not matter."""
        context = self.context_of(context)
        ids = context.language_ids
        if ids is None:
            ids = torch.zeros(context.n_texts, dtype=torch.long, device=x.device)
        known = (ids > 0) & (ids < self.languages.num_embeddings)
        if self.training and self.dropout:
            known = known & (torch.rand(ids.shape, device=x.device) >= self.dropout)
        logits = F.embedding(torch.where(known, ids, 0), self.languages.weight.float())
        return _for_all_tokens(self, logits, context)


def _for_all_tokens(router: Router, logits: Tensor, context: RoutingContext) -> Routing:
    """The routing of texts by their logits (n_texts, n_experts), repeated for each token."""
    gates, experts = logits.softmax(dim=-1).topk(router.top_k, dim=-1)
    texts = context.text_of_token
    return Routing(logits[texts], experts[texts], router.shared_out(gates)[texts])
