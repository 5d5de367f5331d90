"""Where the routers of a sparse model send each token of a query: numbers, and heat maps of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mretrieve import InputError
from mretrieve.encode.checkpoint import find_checkpoint
from mretrieve.encode.tokenize import tokenizer_for
from mretrieve.index.manifest import Manifest
from mretrieve.models.config_file import is_nomic, read_nomic_config
from mretrieve.models.nomic_config import NomicConfig

from .cards import message

if TYPE_CHECKING:
    from mretrieve.understand.running import TextModel

CELL = 11  # pixels of one expert in a token's map
TOKENS_AT_MOST = 128


@dataclass(frozen=True, slots=True)
class Routing:
    """The routing of one text.

    Attributes:
        tokens: with special ones, in order.
        is_text: of each token, whether it belongs to the text and not to the prompt or the frame.
        layers: numbers of the layers that have experts.
        probabilities: (n_tokens, n_layers, n_experts) float32, softmax of the router's logits.
        used: (n_tokens, n_layers, n_experts) bool, the experts that the token passed through.
    """

    tokens: tuple[str, ...]
    is_text: tuple[bool, ...]
    layers: tuple[int, ...]
    probabilities: NDArray[np.float32]
    used: NDArray[np.bool_]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "tokens": list(self.tokens),
            "is_text": list(self.is_text),
            "layers": list(self.layers),
            "probabilities": np.round(self.probabilities.astype(float), 4).tolist(),
            "experts": [[np.flatnonzero(layer).tolist() for layer in token] for token in self.used],
        }


def sparse_config(manifest: Manifest) -> NomicConfig | None:
    """The config of an index's model if it has experts; None if not, or if the model is not at hand."""
    if manifest.encoder is None:
        return None
    try:
        checkpoint = find_checkpoint(manifest.encoder.model)
        config = read_nomic_config(checkpoint.folder) if is_nomic(checkpoint.config) else None
    except (InputError, OSError):
        return None
    return config if config is not None and config.moe_layers else None


def describe_experts(config: NomicConfig) -> str:
    """`8 in each of the layers 1, 3, 5; a token passes through 2 (router softmax)`."""
    layers = ", ".join(map(str, config.moe_layers))
    return (
        f"{config.num_experts} in each of the layers {layers}; a token passes through {config.moe_top_k} "
        f"(router {config.router})"
    )


def route(model: str, text: str, *, prefix: str = "", lang: str = "") -> Routing:
    """Run one text through a sparse model.

    Args:
        model: its name, as an index's manifest has it.
        text: of a query, cut to `TOKENS_AT_MOST`.
        prefix: the prompt put before it.
        lang: ISO code, for routers that go by it.

    Raises:
        InputError: the text is empty, or the model is not at hand or has no experts.
    """
    if not text.strip():
        raise InputError("Give some text whose routing to show.")
    runner = _text_model(model)
    config = runner.model.sizes
    if not config.moe_layers:
        raise InputError(f"{model} has no layers of experts, so nothing is routed in it.")
    tokenizer = tokenizer_for(runner.checkpoint.folder, [text])
    limit = min(TOKENS_AT_MOST, runner.checkpoint.max_length)
    frame, ids = tokenizer.encode_batch(["", prefix + text], max_length=limit)
    prompt, pieces = tokenizer.pieces([prefix.rstrip(), prefix + text])
    (batch,) = runner.run([ids], lang=lang)
    output = batch.output
    assert output.router_logits and output.router_experts and output.router_gates
    probabilities = np.stack([one.float().softmax(-1).cpu().numpy() for one in output.router_logits], axis=1)
    used = np.zeros(probabilities.shape, np.bool_)
    for layer, (experts, gates) in enumerate(zip(output.router_experts, output.router_gates, strict=True)):
        chosen = np.zeros(probabilities[:, layer].shape)
        np.put_along_axis(chosen, experts.cpu().numpy(), (gates > 0).float().cpu().numpy(), axis=1)
        used[:, layer] = chosen > 0
    tokens, is_text = _labels(len(ids), len(frame), pieces, len(prompt))
    return Routing(tokens, is_text, tuple(config.moe_layers), probabilities, used)


@lru_cache(maxsize=1)
def _text_model(model: str) -> "TextModel":
    """Loaded once: it is there beside the encoder's own copy of the weights, in float32."""
    from mretrieve.understand.running import TextModel

    return TextModel(model)


def _labels(
    n_ids: int, n_frame: int, pieces: Sequence[str], n_prompt: int
) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """What to call each token; half of the special ones stand before the text, half behind it."""
    head, tail = (n_frame + 1) // 2, n_frame // 2
    inner = list(pieces[: n_ids - n_frame])
    tokens = ["<s>"] * head + inner + ["</s>"] * tail
    is_text = [False] * head + [place >= n_prompt for place in range(len(inner))] + [False] * tail
    return tuple(tokens), tuple(is_text)


def heat_maps(routing: Routing) -> str:
    """One map of layers × experts for all of the text, and one for each token, as HTML."""
    if not any(routing.is_text):
        return message("Nothing to show", "The text has no tokens besides the prompt.")
    text = np.array(routing.is_text)
    n_experts = routing.probabilities.shape[2]
    mean = _svg(routing.probabilities[text].mean(0), routing.used[text].mean(0) >= 0.5, routing, 2 * CELL)
    maps = "".join(
        f'<figure class="token{"" if inside else " frame"}">'
        f"{_svg(probabilities, used, routing, CELL)}"
        f"<figcaption dir='auto'>{_visible(token)}</figcaption></figure>"
        for token, inside, probabilities, used in zip(
            routing.tokens, routing.is_text, routing.probabilities, routing.used, strict=True
        )
    )
    layers = ", ".join(map(str, routing.layers))
    status = (
        f"{int(text.sum())} tokens · layers {layers} from top to bottom · "
        f"experts 0 to {n_experts - 1} from left to right · the stronger the colour, the likelier · "
        "a ring marks the experts used"
    )
    whole = f"<figure>{mean}<figcaption>Mean of the text</figcaption></figure>{_loads(routing, text)}"
    return (
        f'<section class="mr-experts"><p class="status" role="status">{status}</p>'
        f'<div class="mean">{whole}</div><div class="tokens">{maps}</div></section>'
    )


def _loads(routing: Routing, text: NDArray[np.bool_]) -> str:
    """How much of each layer's work every expert did, as a table."""
    used = routing.used[text].sum(0)
    share = used / np.maximum(used.sum(1, keepdims=True), 1)
    head = "".join(f"<th class='number'>{expert}</th>" for expert in range(share.shape[1]))
    rows = "".join(
        f"<tr><th scope='row'>{layer}</th>"
        + "".join(f"<td class='number'>{100 * one:.0f}</td>" for one in row)
        + "</tr>"
        for layer, row in zip(routing.layers, share, strict=True)
    )
    return (
        "<table class='load'><caption>Share of each expert in a layer's work, in percent</caption>"
        f"<thead><tr><th>Layer</th>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _svg(probabilities: NDArray[np.float32], used: NDArray[np.bool_], routing: Routing, cell: int) -> str:
    n_layers, n_experts = probabilities.shape
    width, height = n_experts * cell, n_layers * cell
    cells = []
    for place, layer in enumerate(routing.layers):
        for expert in range(n_experts):
            share = float(probabilities[place, expert])
            ring = ' class="used"' if used[place, expert] else ""
            cells.append(
                f'<rect{ring} x="{expert * cell + 0.5}" y="{place * cell + 0.5}" width="{cell - 2}" '
                f'height="{cell - 2}" rx="1.5" style="--share:{share**0.5:.3f}">'
                f"<title>layer {layer}, expert {expert}: {100 * share:.0f}%</title></rect>"
            )
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="Layers by experts">{"".join(cells)}</svg>'
    )


def _visible(token: str) -> str:
    return escape(token.replace("▁", "") or "␣")
