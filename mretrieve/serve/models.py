"""The models of a server, by the names that requests use.

`e5-small:query` and `e5-small:document` choose the prompt; the plain name is for documents, and `input_type`
chooses for clients that know of it.
"""

import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from mretrieve.encode.checkpoint import OWN_NAMES
from mretrieve.encode.encoder import Encoder
from mretrieve.errors import InputError
from mretrieve.serve.errors import ApiError
from mretrieve.serve.served import ServedModel
from mretrieve.serve.state import Kind

DEFAULT = "e5-small"
InputType = Literal["query", "search_query", "document", "search_document", "passage"]
"""What a text is for, as Cohere, Voyage and NVIDIA name it."""

_NAME = re.compile(r"[\w.@/-]{1,120}")
_QUERIES = ("query", "search_query")


class ModelRegistry:
    """What models there are; safe to use from several threads.

    Args:
        specs: `MODEL` or `NAME=MODEL`, where MODEL is what `Encoder` takes; the first is the default one.
        device: `auto`, `cpu` or `cuda`.
        dtype: `auto`, `fp32`, `bf16` or `int8`.

    Raises:
        InputError: a model cannot be found, or two have the same name.
    """

    def __init__(self, specs: Sequence[str] = (), *, device: str = "auto", dtype: str = "auto") -> None:
        self._device, self._dtype = device, dtype
        self._models: dict[str, ServedModel] = {}
        self._lock = threading.Lock()
        for spec in specs:
            name, model = split_spec(spec)
            if name in self._models:
                raise InputError(
                    f"Two models are called '{name}': give one of them another name, NAME=MODEL."
                )
            self.add(model, name=name)

    def add(
        self,
        model: str,
        *,
        name: str | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
    ) -> ServedModel:
        """Serve one more model, or give the one that is the same already. It is loaded when it is used.

        Args:
            model: what `Encoder` takes.
            name: what requests call it; by default as the model itself, without the folders above it. A name
                that another model has gets a number.
            query_prefix: in place of the model's own prompt.
            document_prefix: in place of the model's own prompt.

        Raises:
            InputError: there is no such model.
        """
        encoder = Encoder(
            model,
            device=self._device,
            dtype=self._dtype,
            query_prefix=query_prefix,
            document_prefix=document_prefix,
        )
        with self._lock:
            for other in self._models.values():
                if name is None and _are_same(other.encoder, encoder):
                    return other
            served = ServedModel(self._free_name(name or public_name(model)), encoder)
            self._models[served.name] = served
            return served

    def _free_name(self, name: str) -> str:
        number, free = 1, name
        while free in self._models:
            number += 1
            free = f"{name}-{number}"
        return free

    @property
    def all(self) -> list[ServedModel]:
        """The models, the default one first."""
        with self._lock:
            return list(self._models.values())

    @property
    def default(self) -> ServedModel:
        """The first model.

        Raises:
            ApiError: the server has none (404).
        """
        for model in self.all:
            return model
        raise ApiError(404, "This server has no embedding model.", param="model", code="model_not_found")

    @property
    def names(self) -> list[str]:
        """All names that requests may use."""
        return [f"{model.name}{end}" for model in self.all for end in ("", *_ENDINGS)]

    def find(self, name: str, input_type: InputType | None = None) -> tuple[ServedModel, Kind]:
        """The model that a request names, and the prompt that it wants.

        Args:
            name: of a model, with `:query` or `:document` behind it or not.
            input_type: goes before the plain name.

        Raises:
            ApiError: there is no such model (404), or the two contradict each other (400).
        """
        kind: Kind | None = None
        if input_type is not None:
            kind = "query" if input_type in _QUERIES else "document"
        with self._lock:
            if name in self._models:
                return self._models[name], kind or "document"
            stem, _, ending = name.rpartition(":")
            model = self._models.get(stem)
        if model is None or ending not in get_args(Kind):
            known = ", ".join(model.name for model in self.all) or "none"
            raise ApiError(
                404,
                f"There is no model {name!r:.150}. Choose from: {known}; :query or :document may follow.",
                param="model",
                code="model_not_found",
            )
        named: Kind = "query" if ending == "query" else "document"
        if kind is not None and kind != named:
            raise ApiError(
                400, f"The model's name says {named}, but input_type says {kind}.", param="input_type"
            )
        return model, named

    @property
    def is_ready(self) -> bool:
        """Whether all models can answer at once."""
        return all(model.is_loaded for model in self.all)

    def load(self) -> None:
        """Load all models that are not loaded yet.

        Raises:
            InputError: the files of one are damaged.
        """
        for model in self.all:
            model.load()


_ENDINGS = tuple(f":{kind}" for kind in get_args(Kind))


def split_spec(spec: str) -> tuple[str, str]:
    """`NAME=MODEL` or `MODEL` to the name that requests use, and the model.

    Raises:
        InputError: the name has characters that it may not have.
    """
    name, is_named, model = spec.partition("=")
    if not is_named:
        return public_name(spec), spec
    if not _NAME.fullmatch(name) or not model:
        raise InputError(
            f"'{spec}' is no NAME=MODEL: a name has letters, digits and . _ @ / - only, and the model comes "
            "after it."
        )
    return name, model


def public_name(model: str) -> str:
    """A model's name for requests: our own names and hub ids as they are, a folder's last part."""
    if model in OWN_NAMES or not Path(model).expanduser().is_dir():
        return model
    return re.sub(r"[^\w.@-]", "-", Path(model).expanduser().resolve().name) or "model"


def _are_same(one: Encoder, other: Encoder) -> bool:
    return (one.checkpoint.folder.resolve(), one.query_prefix, one.document_prefix) == (
        other.checkpoint.folder.resolve(),
        other.query_prefix,
        other.document_prefix,
    )
