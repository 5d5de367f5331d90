"""Put weights where an ONNX graph finds them: into it, into a file beside it, or where they lie already."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from onnx import TensorProto

from mretrieve.models.onnx_build import UNPLACED
from mretrieve.models.onnx_weights import Tensors, weight_of
from mretrieve.models.weights import StoredTensor

_ALIGNMENT = 4096  # of weights in a file, so that a runtime can map them
_BYTES = {TensorProto.FLOAT: 4, TensorProto.INT8: 1}
_AS_STORED = re.compile(r"(?P<tensor>[^\[]+)(\[(?P<start>\d+):\d+\])?")

Tell = Callable[[int, int], None]
"""Called with how many weights are done, and of how many."""


def weight_bytes(model: Any) -> int:
    """Size of the weights that a new `onnx.ModelProto` names."""
    return sum(math.prod(tensor.dims) * _BYTES[tensor.data_type] for tensor in _unplaced(model))


def embed_weights(model: Any, tensors: Tensors, *, tell: Tell = lambda done, total: None) -> None:
    """Put those weights that have no place yet into the `onnx.ModelProto` itself."""
    missing = _unplaced(model)
    for number, tensor in enumerate(missing):
        tell(number, len(missing))
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        tensor.raw_data = weight_of(tensor.name, tensors).tobytes()


def write_weights(
    model: Any, tensors: Tensors, stream: BinaryIO, *, location: str, tell: Tell = lambda done, total: None
) -> None:
    """Write those weights that have no place yet to a new file.

    Args:
        model: an `onnx.ModelProto`, which learns where its weights lie.
        tensors: from `graph_tensors`.
        stream: the file, at its start.
        location: the name that it will have beside the graph.
        tell: told how far it is.
    """
    missing = _unplaced(model)
    for number, tensor in enumerate(missing):
        tell(number, len(missing))
        array = weight_of(tensor.name, tensors)
        stream.write(bytes(-stream.tell() % _ALIGNMENT))
        _refer(tensor, location, stream.tell(), array.nbytes)
        stream.write(array.data)


def refer_to_checkpoint(model: Any, stored: Mapping[str, StoredTensor]) -> None:
    """Let a float32 graph find in the checkpoint's files those weights that lie there as they are.

    Locations are relative to the folder that `mapped_folder` names.
    """
    for tensor in _unplaced(model):
        name = _AS_STORED.fullmatch(tensor.name)
        if name is not None and name["tensor"] in stored:
            source = stored[name["tensor"]]
            offset = 4 * int(name["start"] or 0) * math.prod(source.shape[1:])
            _refer(tensor, source.file.resolve().name, source.offset + offset, 4 * math.prod(tensor.dims))


def _unplaced(model: Any) -> list[Any]:
    """The initializers whose data are nowhere yet."""
    return [
        tensor
        for tensor in model.graph.initializer
        if any(entry.value == UNPLACED for entry in tensor.external_data)
    ]


def _refer(tensor: Any, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
