"""The stage `upcycle`: the model that training starts from, sparse or dense, made of a dense checkpoint."""

from typing import Annotated, Literal

from pydantic import Field

from mretrieve.train.context import StageContext, StageResult
from mretrieve.train.recipe import Stage


class UpcycleStage(Stage):
    """Parameters of the stage; see `mretrieve.models.upcycle`.

    With `dense: true` no layer gets experts: the base itself, in the form that is trained.
    """

    stage: Literal["upcycle"]
    base: str = "e5-small"
    dense: bool = False
    experts: Annotated[int, Field(ge=1)] = 8
    top_k: Annotated[int, Field(ge=1)] = 2
    every: Annotated[int, Field(ge=1)] = 2
    last: Annotated[int, Field(ge=1)] | None = None
    way: Literal["exact", "nomic"] = "exact"
    router: str = "softmax"
    noise: Annotated[float, Field(ge=0)] = 0.0

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
    from mretrieve.models.nomic_hub import NomicMoEConfig
    from mretrieve.models.nomic_moe import NomicMoEModel
    from mretrieve.models.upcycle import expert_layers, layer_count, read_dense, upcycle

    checkpoint = find_checkpoint(context.model_name(stage.base))
    context.fingerprints[stage.base] = checkpoint.fingerprint()
    if stage.dense:
        config, tensors = read_dense(checkpoint.folder)
        model = NomicMoEModel(NomicMoEConfig(**config.to_dict()))
        model.load_state_dict(tensors, strict=True)
    else:
        model = upcycle(
            checkpoint.folder,
            moe_layers=expert_layers(layer_count(checkpoint.folder), every=stage.every, last=stage.last),
            num_experts=stage.experts,
            top_k=stage.top_k,
            way=stage.way,
            router=stage.router,
            noise=stage.noise,
            seed=context.seed,
        )
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
