"""NomicMoE written straightforwardly, as in the file that comes with the official checkpoint.

Padded batches, float32, attention by whole matrices, one pass over a loop of experts: what users of
`trust_remote_code` run on a CPU. It is here to be compared with, and shares no code with mretrieve's models.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from mretrieve.models.nomic_config import NomicConfig

BATCH = 32
"""Texts in a batch, as sentence-transformers has it."""


class PlainNomic:
    """The encoder with rotary positions and softmax routers."""

    def __init__(self, folder: Path, config: NomicConfig) -> None:
        self.config = config
        self.w = load_file(folder / "model.safetensors")

    @torch.inference_mode()
    def embed(self, texts: list[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Mean-pooled unit vectors, batch after batch, texts in the order in which they come."""
        vectors = []
        for start in range(0, len(texts), BATCH):
            batch = texts[start : start + BATCH]
            ids = torch.ones(len(batch), max(map(len, batch)), dtype=torch.long)
            mask = torch.zeros_like(ids, dtype=torch.float32)
            for row, text in enumerate(batch):
                ids[row, : len(text)] = torch.from_numpy(text)
                mask[row, : len(text)] = 1
            hidden = self.forward(ids, mask) * mask.unsqueeze(-1)
            vectors.append(F.normalize(hidden.sum(1) / mask.sum(1, keepdim=True), dim=-1))
        found: NDArray[np.float32] = torch.cat(vectors).numpy()
        return found

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(batch, length) ids and mask to (batch, length, hidden)."""
        w = self.w
        x = F.embedding(ids, w["embeddings.word_embeddings.weight"])
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "emb_ln")
        blocked = (1 - mask)[:, None, None] * torch.finfo(torch.float32).min
        for i in range(self.config.num_hidden_layers):
            prefix = f"encoder.layers.{i}."
            x = self._norm(x + self._attention(x, blocked, f"{prefix}attn."), f"{prefix}norm1")
            if i in self.config.moe_layers:
                y = self._experts(x.flatten(0, 1), f"{prefix}mlp.").view(x.shape)
            else:
                y = self._linear(F.gelu(self._linear(x, f"{prefix}mlp.fc1")), f"{prefix}mlp.fc2")
            x = self._norm(x + y, f"{prefix}norm2")
        return x

    def _attention(self, x: Tensor, blocked: Tensor, prefix: str) -> Tensor:
        n, length, hidden = x.shape
        qkv = self._linear(x, f"{prefix}Wqkv").view(n, length, 3, self.config.num_attention_heads, -1)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # (batch, heads, length, head_dim)
        q, k = self._rotate(q), self._rotate(k)
        scores = q @ k.transpose(2, 3) / self.config.head_dim**0.5 + blocked
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, hidden)
        return self._linear(mixed, f"{prefix}out_proj")

    def _rotate(self, x: Tensor) -> Tensor:
        dim = x.shape[-1]
        angles = torch.outer(
            torch.arange(x.shape[-2]).float(),
            self.config.rotary_base ** (-torch.arange(0, dim, 2).float() / dim),
        )
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
        turned = torch.cat([-x[..., dim // 2 :], x[..., : dim // 2]], dim=-1)
        return x * cos + turned * sin

    def _experts(self, x: Tensor, prefix: str) -> Tensor:
        config, w = self.config, self.w
        scores = F.linear(x, w[f"{prefix}router.layer.weight"]).softmax(-1)
        gates, experts = scores.topk(config.moe_top_k)
        w1, w2 = (w[f"{prefix}experts.mlp.{name}"].chunk(config.num_experts) for name in ("w1", "w2"))
        y = torch.zeros_like(x)
        for number in range(config.num_experts):
            tokens, choices = torch.where(experts == number)
            if len(tokens):
                inner = F.gelu(x[tokens] @ w1[number].t())
                y.index_add_(0, tokens, inner @ w2[number] * gates[tokens, choices, None])
        return y + w[f"{prefix}experts.bias"]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight = self.w[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self.w[f"{name}.bias"], self.config.layer_norm_eps)
