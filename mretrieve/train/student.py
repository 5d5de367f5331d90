"""The model that learns: loaded, made fast to train, partly frozen, given a head, saved."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from torch import Tensor, nn

from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.errors import InputError
from mretrieve.files import remove
from mretrieve.models.modules import Head
from mretrieve.models.nomic_files import save_nomic_moe
from mretrieve.models.nomic_moe import NomicMoEModel, NomicMoEOutput
from mretrieve.models.unigram import UNIGRAM_REST, UNIGRAM_TABLE, UNIGRAM_TRIE


def load_student(model: str, *, max_tokens: int, device: str, head: bool = False) -> SentenceTransformer:
    """Load a model to train, in float32.

    Args:
        model: folder or name.
        max_tokens: texts are cut here.
        device: `cpu` or `cuda`.
        head: add a linear layer after pooling, at first the identity.

    Raises:
        InputError: there is no such model, or it allows fewer tokens.
    """
    checkpoint = find_checkpoint(model)
    if max_tokens > checkpoint.max_length:
        raise InputError(
            f"max_tokens {max_tokens} is more than the {checkpoint.max_length} that {model} allows."
        )
    student = SentenceTransformer(str(checkpoint.folder), device=device)
    if head and not any(isinstance(module, Dense) for module in student):
        student = _with_head(student, device)
    student.max_seq_length = max_tokens
    return student


def _with_head(student: SentenceTransformer, device: str) -> SentenceTransformer:
    dim = student.get_embedding_dimension()
    assert dim is not None
    dense = Dense(dim, dim, bias=False, activation_function=None, init_weight=torch.eye(dim))
    modules = [module for module in student if not isinstance(module, Normalize)]
    return SentenceTransformer(
        modules=[*modules, dense, Normalize()],
        device=device,
        prompts={n: p for n, p in student.prompts.items() if p},
    )


def _head(dense: Dense) -> Head:
    bias = None if dense.linear.bias is None else dense.linear.bias.detach().float().cpu().numpy()
    return Head(dense.linear.weight.detach().float().cpu().numpy(), bias)


def encoder_of(student: SentenceTransformer) -> NomicMoEModel | None:
    """The NomicMoE inside, or None where the model is another one."""
    inner = getattr(student[0], "model", None)
    return inner if isinstance(inner, NomicMoEModel) else None


def inner_model(student: SentenceTransformer) -> nn.Module:
    """The transformers model inside."""
    inner = student[0].model
    assert isinstance(inner, nn.Module)
    return inner


def freeze(student: SentenceTransformer, patterns: Sequence[str]) -> int:
    """Freeze parameters by patterns of their names: `embeddings.*`, or `head.*` after pooling.

    Returns:
        How many numbers are still trained.

    Raises:
        InputError: a pattern meets no parameter, or nothing is left to train.
    """
    named = dict(inner_model(student).named_parameters())
    for module in student:
        if isinstance(module, Dense):
            named |= {f"head.{name}": parameter for name, parameter in module.linear.named_parameters()}
    for pattern in patterns:
        met = [parameter for name, parameter in named.items() if fnmatchcase(name, pattern)]
        if not met:
            raise InputError(f"freeze: no parameter of the model is named like '{pattern}'.")
        for parameter in met:
            parameter.requires_grad_(False)
    left = sum(p.numel() for p in student.parameters() if p.requires_grad)
    if not left:
        raise InputError("freeze: nothing is left to train.")
    return left


@dataclass
class RouterLoss:
    """Adds what the routers ask for (balance, z-loss) to whatever loss the embeddings end in.

    The gradient is put in where the token states leave the encoder, so any loss works with it, those with
    cached gradients too. The sum over all forward passes of a step counts, as in contrastors.

    Attributes:
        scale: one over the passes that the trainer averages, since its own division does not reach here.
        total: of the values since the last `mean`.
        passes: how many they were.
    """

    scale: float = 1.0
    total: float | Tensor = 0.0
    passes: int = 0

    def attach(self, states: Tensor, loss: Tensor | None) -> Tensor:
        """The same states, with the loss's gradient hanging on them."""
        if loss is None or not torch.is_grad_enabled():
            return states
        self.total = self.total + loss.detach()
        self.passes += 1
        attached: Tensor = _Attach.apply(states, loss, self.scale)  # type: ignore[no-untyped-call]
        return attached

    def mean(self) -> float:
        """The mean value since the last call."""
        value = float(self.total) / max(self.passes, 1)
        self.total, self.passes = 0.0, 0
        return value


class _Attach(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, loss: Tensor, scale: float) -> Tensor:
        ctx.scale, ctx.dtype = scale, loss.dtype
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return gradient, torch.full((), ctx.scale, dtype=ctx.dtype, device=gradient.device), None


def prepare(
    student: SentenceTransformer, *, unpadded: bool, router_loss: RouterLoss, coefficients: dict[str, Any]
) -> None:
    """Have the encoder compute without padding, and add its routers' losses.

    Args:
        student: changed in place; other models than NomicMoE stay as they are.
        unpadded: lay the texts of a batch one after the other; the values are the same.
        router_loss: where the routers' losses go.
        coefficients: fields of the config to set for training, such as `router_aux_loss_coef`.
    """
    encoder = encoder_of(student)
    if encoder is None:
        return
    encoder.sizes = replace(encoder.sizes, **coefficients)
    for name, value in coefficients.items():
        setattr(encoder.config, name, value)
    inner: Callable[..., Any] = encoder.forward

    def forward(input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any) -> NomicMoEOutput:
        if unpadded and attention_mask is not None:
            output = _forward_unpadded(encoder, input_ids, attention_mask, others.get("language_ids"))
        else:
            output = inner(input_ids, attention_mask, **others)
        assert isinstance(output, NomicMoEOutput)
        assert output.last_hidden_state is not None
        output["last_hidden_state"] = router_loss.attach(output.last_hidden_state, output.auxiliary_loss)
        return output

    # The library calls `model.forward` itself and not the module, so hooks would never run.
    encoder.forward = forward  # type: ignore[method-assign, assignment]


def _forward_unpadded(
    encoder: NomicMoEModel, input_ids: Tensor, mask: Tensor, language_ids: Tensor | None
) -> NomicMoEOutput:
    """As the padded forward pass, with zeros on padding; texts of equal length are put side by side."""
    n, length = input_ids.shape
    real = mask.bool()
    lengths, order = real.sum(dim=1).sort(stable=True)
    places = torch.arange(n * length, device=input_ids.device).view(n, length)[order][real[order]]
    output = encoder.forward_packed(
        input_ids.flatten()[places],
        lengths.tolist(),
        language_ids=None if language_ids is None else language_ids[order],
    )
    assert output.last_hidden_state is not None
    states = output.last_hidden_state
    padded = states.new_zeros(n * length, states.shape[1]).index_copy(0, places, states)
    output["last_hidden_state"] = padded.view(n, length, -1)
    return output


def save_student(
    student: SentenceTransformer, folder: Path, *, source: str, matryoshka: Sequence[int] = ()
) -> None:
    """Write a sentence-transformers folder.

    Args:
        student: the trained model.
        folder: replaced if it exists.
        source: the model it was trained from, whose tokenizer, prompts and length are kept.
        matryoshka: embedding lengths that it was trained for beside the whole one; said in its settings, so
            that servers know to which lengths its embeddings may be cut.
    """
    _save(student, folder, source)
    if matryoshka:
        whole = student.get_embedding_dimension()
        assert whole is not None
        path = folder / "config_sentence_transformers.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings["matryoshka_dims"] = sorted({*matryoshka, whole}, reverse=True)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _save(student: SentenceTransformer, folder: Path, source: str) -> None:
    remove(folder)
    encoder = encoder_of(student)
    checkpoint = find_checkpoint(source)
    prompts = {"query": checkpoint.query_prefix, "passage": checkpoint.document_prefix}
    if encoder is not None:
        dense = next((module for module in student if isinstance(module, Dense)), None)
        save_nomic_moe(
            encoder,
            folder,
            tokenizer=checkpoint.folder,
            prompts=prompts if any(prompts.values()) else None,
            max_length=checkpoint.max_length,
            head=None if dense is None else _head(dense),
        )
        return
    student.max_seq_length = checkpoint.max_length
    student.prompts = {"query": prompts["query"], "document": prompts["passage"]}
    student.save_pretrained(str(folder), create_model_card=False)
    for name in (UNIGRAM_TRIE, UNIGRAM_TABLE, UNIGRAM_REST):  # for readers that start fast
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)
