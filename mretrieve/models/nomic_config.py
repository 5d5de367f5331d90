"""Sizes and choices of a NomicMoE encoder, read from our own `config.json`.

Nussbaum & Duderstadt, 2025 (arXiv:2502.07972). Nothing here needs torch or transformers; the official
hub format is read by `mretrieve.models.nomic_official`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mretrieve.errors import InputError

MODEL_TYPE = "mretrieve_nomic_moe"
ACTIVATIONS = ("gelu", "gelu_pytorch_tanh", "relu")
POSITIONS = ("rotary", "absolute")

_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@dataclass(frozen=True)
class NomicConfig:
    """A post-norm BERT encoder in which the layers `moe_layers` have experts instead of one FFN.

    `position_embedding_type` is `rotary` (official) or `absolute`, a learned table as in BERT; there the
    first token has position `first_position`: 0 in BERT, pad id + 1 in RoBERTa and XLM-R.
    `attention_bias` is for both Wqkv and out_proj. `normalize_gates` divides the chosen gates by their
    sum, `expert_biases` gives each expert its own inner bias; the official model has neither.

    Raises:
        InputError: sizes that do not fit together, or an unknown choice.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    max_position_embeddings: int = 2048
    type_vocab_size: int = 1
    pad_token_id: int = 1
    position_embedding_type: str = "rotary"
    first_position: int = 0
    rotary_base: float = 10000.0
    rotary_fraction: float = 1.0
    rotary_interleaved: bool = False
    attention_bias: bool = True
    fc1_bias: bool = True
    fc2_bias: bool = True
    moe_layers: tuple[int, ...] = ()
    num_experts: int = 0
    moe_top_k: int = 0
    router: str = "softmax"
    normalize_gates: bool = False
    expert_biases: bool = False
    router_aux_loss_coef: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self._check_types()
        self._check_encoder()
        self._check_experts()

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rotary_dim(self) -> int:
        """How many features of each head are rotated; the rest is left as it is."""
        return int(self.head_dim * self.rotary_fraction)

    @property
    def max_length(self) -> int:
        """Tokens that a text may have, special ones included."""
        return self.max_position_embeddings - self.first_position

    def to_dict(self) -> dict[str, Any]:
        """The fields for `config.json`, `moe_layers` as a list."""
        return asdict(self) | {"moe_layers": list(self.moe_layers)}

    def _check_types(self) -> None:
        for field in fields(self):
            value, wanted = getattr(self, field.name), field.type
            if wanted is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif wanted in (int, float, bool, str) and type(value) is not wanted:
                name = getattr(wanted, "__name__", wanted)
                raise InputError(f"Config field {field.name} must be {name}, got {value!r}.")

    def _check_encoder(self) -> None:
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        for name in (*sizes, "intermediate_size", "type_vocab_size", "layer_norm_eps", "rotary_base"):
            if not getattr(self, name) > 0:
                raise InputError(f"Config field {name} must be above 0, got {getattr(self, name)}.")
        if self.hidden_size % self.num_attention_heads:
            raise InputError(
                f"hidden_size {self.hidden_size} is no multiple of num_attention_heads "
                f"{self.num_attention_heads}."
            )
        _check_choice("hidden_act", self.hidden_act, ACTIVATIONS)
        _check_choice("position_embedding_type", self.position_embedding_type, POSITIONS)
        if not 0 <= self.first_position < self.max_position_embeddings:
            raise InputError(
                f"first_position {self.first_position} must lie below max_position_embeddings "
                f"{self.max_position_embeddings}."
            )
        if self.position_embedding_type == "rotary":
            if self.first_position:
                raise InputError(
                    "first_position belongs to absolute positions; with rotary ones it must be 0."
                )
            if not 0 < self.rotary_fraction <= 1 or self.rotary_dim % 2 or not self.rotary_dim:
                raise InputError(
                    f"rotary_fraction {self.rotary_fraction} of a head of {self.head_dim} features must give "
                    "an even number of features, at least 2."
                )

    def _check_experts(self) -> None:
        object.__setattr__(self, "moe_layers", tuple(self.moe_layers))
        layers = self.moe_layers
        if any(type(layer) is not int for layer in layers) or list(layers) != sorted(set(layers)):
            raise InputError(f"moe_layers must be layer numbers in rising order, got {list(layers)}.")
        if layers and not 0 <= layers[0] <= layers[-1] < self.num_hidden_layers:
            raise InputError(
                f"moe_layers {list(layers)} must lie between 0 and {self.num_hidden_layers - 1}, the last "
                "layer."
            )
        if not layers:
            return
        if self.num_experts < 1:
            raise InputError(
                f"num_experts must be at least 1 in a model with expert layers, got {self.num_experts}."
            )
        if not 1 <= self.moe_top_k <= self.num_experts:
            raise InputError(
                f"moe_top_k must be between 1 and num_experts ({self.num_experts}), got {self.moe_top_k}."
            )


def parse_config(content: Mapping[str, Any]) -> NomicConfig:
    """Read our own `config.json`; fields that are not the architecture's (transformers' own) are left out.

    Raises:
        InputError: a field is missing or wrong, or the model type is not ours.
    """
    if content.get("model_type") != MODEL_TYPE:
        raise InputError(
            f"This config has model_type {content.get('model_type')!r}; NomicMoE's own is '{MODEL_TYPE}'."
        )
    known = {field.name for field in fields(NomicConfig)}
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise InputError(f"The config lacks the field(s) {', '.join(missing)}.")
    return NomicConfig(**{name: value for name, value in content.items() if name in known})


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"Unknown {name} '{value}'. Known: {', '.join(known)}.")
