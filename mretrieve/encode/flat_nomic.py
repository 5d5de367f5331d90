"""NomicMoE over flat sequences, on packed weights: the fast path on the CPU.

Needs neither transformers nor the model classes. A checkpoint's tensors are mapped and packed one by one, so
that loading never holds more than the packed weights and one tensor beside them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mretrieve.encode.flat import FlatEncoder, FlatLayer, positions_of
from mretrieve.encode.flat_attention import FlatAttention, Rotary
from mretrieve.models.config_file import read_nomic_config
from mretrieve.models.nomic_config import NomicConfig
from mretrieve.models.nomic_shapes import tensor_shapes
from mretrieve.models.packed import Linear, PackedExperts, linear, pack_experts
from mretrieve.models.routers import ROUTERS, Router, make_router
from mretrieve.models.weights import check_tensors, stored_tensors


def runs_flat(config: NomicConfig) -> bool:
    """Whether `FlatNomic` runs a model: its router must look at each token by itself."""
    return not config.moe_layers or not ROUTERS[config.router].needs_context


class FlatNomic(FlatEncoder):
    """A NomicMoE or dense NomicBert checkpoint, official or ours, for which `runs_flat` is true.

    Args:
        folder: holds `config.json` and safetensors.
        device: where to compute.
        dtype: of the layers, float32 or bfloat16. Embeddings and routers are float32.

    Raises:
        InputError: a file is missing or damaged, or a tensor missing, unknown or wrongly shaped.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.config = config = read_nomic_config(folder)
        assert runs_flat(config), f"the router '{config.router}' needs to know whole texts"
        stored = stored_tensors(folder)
        check_tensors(
            folder,
            {name: one.shape for name, one in stored.items()},
            tensor_shapes(config, router_shapes(config)),
        )
        super().__init__(
            {name: one.tensor for name, one in stored.items()},
            device=device,
            dtype=dtype,
            eps=config.layer_norm_eps,
            max_length=config.max_length,
        )

    def build(self) -> None:
        """Take the tensors by their official names."""
        config = self.config
        # Stays mapped: most words of a large vocabulary are never looked up.
        self._words = self.stored("embeddings.word_embeddings.weight")
        self._places = self.take("embeddings.token_type_embeddings.weight", torch.float32)[:1]
        rotary = None
        if config.position_embedding_type == "absolute":
            table = self.take("embeddings.position_embeddings.weight", torch.float32)
            self._places = table[config.first_position :] + self._places
        else:
            rotary = Rotary(
                config.max_length, dim=config.rotary_dim, base=config.rotary_base, device=self.device
            )
        self._norm = self.norm("emb_ln", torch.float32)
        self.attention = FlatAttention(config.num_attention_heads, rotary)
        self.layers = [self._layer(i) for i in range(config.num_hidden_layers)]

    def embed(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Words, the first token type and, if they are absolute, positions; normed."""
        places = self._places
        if len(places) > 1:
            places = F.embedding(positions_of(lengths, self.device), places)
        return self._norm(F.embedding(ids, self._words).float() + places)

    def _layer(self, number: int) -> FlatLayer:
        prefix = f"encoder.layers.{number}."
        mlp: Callable[[Tensor], Tensor]
        if number in self.config.moe_layers:
            mlp = self._experts(f"{prefix}mlp.")
        else:
            mlp = self.mlp(f"{prefix}mlp.fc1", f"{prefix}mlp.fc2", self.config.hidden_act)
        return FlatLayer(
            qkv=self._qkv(f"{prefix}attn.Wqkv"),
            out=self.linear(f"{prefix}attn.out_proj"),
            attention_norm=self.norm(f"{prefix}norm1"),
            mlp=mlp,
            output_norm=self.norm(f"{prefix}norm2"),
        )

    def _qkv(self, name: str) -> Linear:
        weight, bias = self.take(f"{name}.weight"), None
        if self.config.attention_bias:
            bias = self._in_pairs(self.take(f"{name}.bias").unsqueeze(1)).squeeze(1)
        return linear(self._in_pairs(weight), bias)

    def _in_pairs(self, weight: Tensor) -> Tensor:
        """Rows of queries and keys in such order that the features that turn together are neighbours.

        Scores do not change when the features of both are ordered anew.
        """
        config, dim = self.config, self.config.rotary_dim
        if config.position_embedding_type != "rotary" or config.rotary_interleaved:
            return weight
        parts = weight.view(3, config.num_attention_heads, config.head_dim, -1).clone()
        halves = parts[:2, :, :dim].reshape(2, config.num_attention_heads, 2, dim // 2, -1)
        parts[:2, :, :dim] = halves.transpose(2, 3).flatten(2, 3)
        return parts.view(weight.shape)

    def _experts(self, prefix: str) -> PackedExperts:
        b1 = self.take(f"{prefix}experts.mlp.b1") if self.config.expert_biases else None
        experts = pack_experts(
            self.stored(f"{prefix}experts.mlp.w1"),
            self.stored(f"{prefix}experts.mlp.w2"),
            b1,
            n_experts=self.config.num_experts,
            act=self.config.hidden_act,
            dtype=self.dtype,
        )
        return PackedExperts(self._router(f"{prefix}router."), experts, self.take(f"{prefix}experts.bias"))

    def _router(self, prefix: str) -> Router:
        router = make_router(self.config).to(self.device)
        names = router.state_dict()
        router.load_state_dict({name: self.take(f"{prefix}{name}", torch.float32) for name in names})
        return router.eval()


def router_shapes(config: NomicConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of one layer's router, whichever it is."""
    if not config.moe_layers:
        return {}
    with torch.device("meta"):
        router = make_router(config)
    return {name: tuple(tensor.shape) for name, tensor in router.state_dict().items()}
