"""The stage `upcycle`: the model that training starts from, sparse or dense, made of a dense checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.recipe import Stage

if TYPE_CHECKING:
    from mretrieve.models.nomic_moe import NomicMoEModel


class UpcycleStage(Stage):
    """Parameters of the stage; see `mretrieve.models.upcycle`.

    With `dense: true` no layer gets experts: the base itself, in the form that is trained. The fields after
    `noise` are the new model's own, see `NomicConfig`, which has their defaults; what `train` says of the
    weights of the routers' losses goes before what is said here.
    """

    stage: Literal["upcycle"]
    base: str = "e5-small"
    dense: bool = False
    experts: Annotated[int, Field(ge=1)] = 8
    top_k: Annotated[int, Field(ge=1)] = 2
    every: Annotated[int, Field(ge=1)] = 2
    last: Annotated[int, Field(ge=1)] | None = None
    way: Literal["exact", "nomic"] = "exact"
    noise: Annotated[float, Field(ge=0)] = 0.0
    router: str | None = None
    router_dim: int | None = None
    router_temperature: float | None = None
    router_top_p: float | None = None
    languages: list[str] | None = None
    language_dropout: float | None = None
    balance_loss: str | None = None
    router_aux_loss_coef: float | None = None
    router_z_loss_coef: float | None = None
    router_entropy_coef: float | None = None
    router_distillation_coef: float | None = None
    expert_output_masking: float | None = None
    final_output_masking: float | None = None
    hidden_dropout: float | None = None

    def inputs(self) -> list[str]:
        """The base, where a stage before this one makes it."""
        return [self.base]


def run_upcycle(stage: UpcycleStage, context: StageContext) -> StageResult:
    """Write the model to `NAME/model`, with the base's tokenizer, prompts and pooling.

    Raises:
        InputError: there is no such base, it is none that we can upcycle, or the sizes do not fit.
    """
    from mretrieve.encode.checkpoint import find_checkpoint
    from mretrieve.files import remove
    from mretrieve.models.nomic_files import save_nomic_moe

    checkpoint = find_checkpoint(context.model_name(stage.base))
    context.fingerprints[stage.base] = checkpoint.fingerprint()
    model = _dense(checkpoint.folder) if stage.dense else _sparse(stage, checkpoint.folder, context.seed)
    prompts = {"query": checkpoint.query_prefix, "passage": checkpoint.document_prefix}
    folder = context.folder / "model"
    remove(folder)
    save_nomic_moe(
        model,
        folder,
        tokenizer=checkpoint.folder,
        prompts=prompts if any(prompts.values()) else None,
        max_length=checkpoint.max_length,
    )
    total = sum(parameter.numel() for parameter in model.parameters())
    return StageResult(details={"parameters": total, "moe_layers": list(model.sizes.moe_layers)})


def _dense(folder: Path) -> "NomicMoEModel":
    from mretrieve.models.nomic_hub import NomicMoEConfig
    from mretrieve.models.nomic_moe import NomicMoEModel
    from mretrieve.models.upcycle import read_dense

    config, tensors = read_dense(folder)
    model = NomicMoEModel(NomicMoEConfig(**config.to_dict()))
    model.load_state_dict(tensors, strict=True)
    return model


def _sparse(stage: UpcycleStage, folder: Path, seed: int) -> "NomicMoEModel":
    from mretrieve.models.upcycle import upcycle

    return upcycle(folder, **upcycling_arguments(stage, seed=seed, base=folder))


def upcycling_arguments(stage: UpcycleStage, *, seed: int, base: Path | None = None) -> dict[str, Any]:
    """What a stage passes to `upcycle` beside the base.

    Args:
        stage: its parameters.
        seed: of the stage.
        base: folder of the base; found by its name without it.
    """
    from mretrieve.encode.checkpoint import find_checkpoint
    from mretrieve.models.upcycle import FIELDS, expert_layers, layer_count

    folder = base or find_checkpoint(stage.base).folder
    fields = {name: value for name in FIELDS if (value := getattr(stage, name)) is not None}
    return {
        "moe_layers": expert_layers(layer_count(folder), every=stage.every, last=stage.last),
        "num_experts": stage.experts,
        "top_k": stage.top_k,
        "way": stage.way,
        "noise": stage.noise,
        "seed": seed,
        **fields,
    }
