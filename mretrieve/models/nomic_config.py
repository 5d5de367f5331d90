"""Sizes and choices of a NomicMoE encoder, read from our own `config.json`.

Nussbaum & Duderstadt, 2025 (arXiv:2502.07972). Nothing here needs torch or transformers; the official
hub format is read by `mretrieve.models.nomic_official`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import SequenceMatcher
from typing import Any

from mretrieve.errors import InputError

MODEL_TYPE = "mretrieve_nomic_moe"
ACTIVATIONS = ("gelu", "gelu_pytorch_tanh", "relu")
POSITIONS = ("rotary", "absolute")
ROUTERS = ("softmax", "xmoe", "stable", "sequence", "language", "top_p", "stratified")
BALANCE_LOSSES = ("megablocks", "switch", "gshard", "stable")

_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@dataclass(frozen=True)
class NomicConfig:
    """A post-norm BERT encoder in which the layers `moe_layers` have experts instead of one FFN.

    `position_embedding_type` is `rotary` (official) or `absolute`, a learned table as in BERT; there the
    first token has position `first_position`: 0 in BERT, pad id + 1 in RoBERTa and XLM-R.
    `attention_bias` is for both Wqkv and out_proj. `normalize_gates` divides the chosen gates by their
    sum, `expert_biases` gives each expert its own inner bias; the official model has neither.

    Routing, by the name in `router` (see `mretrieve.models.routers`): `router_dim` is the width that `xmoe`
    and `stable` route in, 0 for their papers' (half the experts, and 50); `router_temperature` is that of
    `xmoe`; `router_top_p` the probability that `top_p` gathers; `router_stage` that of `stable`, 1 or 2;
    `languages` the codes that `language` has rows for, the first with id 1, and `language_dropout` the
    share of texts whose language it does not hear in training.

    Training: `auxiliary_losses` adds `balance_loss` times `router_aux_loss_coef`, and the z-loss, the
    entropy and the distillation loss (`stable` only) times theirs. The maskings and `hidden_dropout`
    are probabilities; nothing is masked or dropped in evaluation.

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
    router_dim: int = 0
    router_temperature: float = 0.3
    router_top_p: float = 0.4
    router_stage: int = 1
    languages: tuple[str, ...] = ()
    language_dropout: float = 0.1
    normalize_gates: bool = False
    expert_biases: bool = False
    balance_loss: str = "megablocks"
    router_aux_loss_coef: float = 0.0
    router_z_loss_coef: float = 0.0
    router_entropy_coef: float = 0.0
    router_distillation_coef: float = 1.0
    expert_output_masking: float = 0.0
    final_output_masking: float = 0.0
    hidden_dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self._check_types()
        self._check_encoder()
        self._check_training()
        self._check_router()
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

    @property
    def light_dim(self) -> int:
        """Width of the embeddings that the light router of `stable` sees; 50 in its paper."""
        return self.router_dim or 50

    def language_id(self, code: str) -> int:
        """What the model's `language_ids` call a language: from 1, and 0 if `languages` lacks it."""
        return self.languages.index(code) + 1 if code in self.languages else 0

    def to_dict(self) -> dict[str, Any]:
        """The fields for `config.json`, tuples as lists."""
        return asdict(self) | {"moe_layers": list(self.moe_layers), "languages": list(self.languages)}

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

    def _check_training(self) -> None:
        _check_choice("balance_loss", self.balance_loss, BALANCE_LOSSES)
        for name in ("aux_loss", "z_loss", "entropy", "distillation"):
            if not getattr(self, f"router_{name}_coef") >= 0:
                value = getattr(self, f"router_{name}_coef")
                raise InputError(f"Config field router_{name}_coef must be 0 or above, got {value}.")
        masking = ("expert_output_masking", "final_output_masking")
        for name in (*masking, "hidden_dropout", "language_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"Config field {name} must be a probability below 1, got {getattr(self, name)}."
                )

    def _check_router(self) -> None:
        if self.router not in ROUTERS:
            near = sorted(ROUTERS, key=lambda name: -SequenceMatcher(None, self.router, name).ratio())
            raise InputError(f"Unknown router '{self.router}'. Known, nearest first: {', '.join(near)}.")
        if self.router_dim < 0:
            raise InputError(f"Config field router_dim must be 0 or above, got {self.router_dim}.")
        if not self.router_temperature > 0:
            raise InputError(
                f"Config field router_temperature must be above 0, got {self.router_temperature}."
            )
        if not 0 < self.router_top_p <= 1:
            raise InputError(
                f"Config field router_top_p must be above 0 and at most 1, got {self.router_top_p}."
            )
        if self.router_stage not in (1, 2) or (self.router_stage == 2 and self.router != "stable"):
            raise InputError(
                "Config field router_stage must be 1, or 2 with the router 'stable', got "
                f"{self.router_stage} with '{self.router}'."
            )
        codes = self.languages
        if type(codes) not in (tuple, list) or any(type(code) is not str for code in codes):
            raise InputError(f"languages must be a list of language codes, got {codes!r}.")
        object.__setattr__(self, "languages", tuple(codes))
        if len(set(codes)) < len(codes):
            raise InputError(f"languages must be different codes, got {list(codes)}.")
        if self.router == "language" and not codes:
            raise InputError("The router 'language' needs the field languages: the codes that it knows.")

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
        if self.router == "stratified" and self.num_experts % self.moe_top_k:
            raise InputError(
                f"The router 'stratified' divides the experts evenly into moe_top_k strata: num_experts "
                f"{self.num_experts} is no multiple of moe_top_k {self.moe_top_k}."
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
