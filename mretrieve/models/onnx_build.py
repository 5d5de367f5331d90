"""Put ONNX graphs together from standard operators, for any opset that has LayerNormalization.

A graph names its weights but does not hold them: names say how to make each one from a checkpoint's
tensors, see `mretrieve.models.onnx_weights`.
"""

import math
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper

from mretrieve.models.nomic_config import NomicConfig

MIN_OPSET, MAX_OPSET = 17, 23
"""From LayerNormalization on; with 23 come Attention and RotaryEmbedding, each one kernel."""

UNPLACED = "nowhere-yet"
"""Where a weight lies before `mretrieve.models.onnx_files` or a session's options say it."""

Size = int | str
"""A dimension: a number, or the name of one that varies."""


class GraphBuilder:
    """Nodes, constants and weights of one graph."""

    def __init__(self, opset: int, *, int8: bool = False) -> None:
        self.opset, self.int8 = opset, int8
        self.unit = ""
        """The number 1, in an int8 graph, as something that is not known before the graph runs."""
        self.weights: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def input(self, name: str, dtype: int, *shape: Size) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, value: str, dtype: int, *shape: Size) -> None:
        """Declare a value as an output."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def weight(self, name: str, *shape: int, dtype: int = TensorProto.FLOAT) -> str:
        """Declare a weight; `mretrieve.models.onnx_weights` finds it by this name."""
        self.weights[name] = (dtype, shape)
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output, and return that."""
        return self.add_many(op, inputs, 1, **attributes)[0]

    def add_many(self, op: str, inputs: Sequence[str], n_outputs: int, **attributes: Any) -> list[str]:
        """Add a node of several outputs, and return those."""
        name = f"{op}_{len(self._nodes)}"
        outputs = [name] if n_outputs == 1 else [f"{name}_{i}" for i in range(n_outputs)]
        self._nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        return outputs

    def ints(self, *values: int) -> str:
        """A constant vector of int64."""
        name = "ints_" + "_".join(map(str, values))
        self._constants[name] = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        return name

    def column(self, *values: int) -> str:
        """A constant of int64, (n, 1)."""
        name = "column_" + "_".join(map(str, values))
        self._constants[name] = helper.make_tensor(name, TensorProto.INT64, [len(values), 1], values)
        return name

    def number(self, value: float, dtype: int = TensorProto.FLOAT) -> str:
        """A constant number."""
        name = f"number_{TensorProto.DataType.Name(dtype).lower()}_{value}"
        self._constants[name] = helper.make_tensor(name, dtype, [], [value])
        return name

    def reduce(self, op: str, x: str, axis: int, *, keep: bool = True) -> str:
        """`ReduceMax` and the like over one axis, which stays with size 1 or is dropped."""
        if op == "ReduceSum" or self.opset >= 18:
            return self.add(op, x, self.ints(axis), keepdims=int(keep))
        return self.add(op, x, axes=[axis], keepdims=int(keep))

    def activation(self, x: str, name: str) -> str:
        """The activation of a checked config."""
        if name == "relu":
            return self.add("Relu", x)
        if self.opset >= 20:
            return self.add("Gelu", x, approximate="none" if name == "gelu" else "tanh")
        if name == "gelu":
            inner = self.add("Erf", self.add("Div", x, self.number(math.sqrt(2))))
        else:
            cube = self.add("Mul", self.add("Mul", x, self.add("Mul", x, x)), self.number(0.044715))
            scaled = self.add("Mul", self.add("Add", x, cube), self.number(math.sqrt(2 / math.pi)))
            inner = self.add("Tanh", scaled)
        whole = self.add("Mul", x, self.add("Add", inner, self.number(1.0)))
        return self.add("Mul", whole, self.number(0.5))

    def norm(self, x: str, name: str, config: NomicConfig) -> str:
        """LayerNorm over the last axis."""
        parts = [self.weight(f"{name}.{part}", config.hidden_size) for part in ("weight", "bias")]
        return self.add("LayerNormalization", x, *parts, axis=-1, epsilon=config.layer_norm_eps)

    def model(self) -> Any:
        """The finished `onnx.ModelProto`; its weights are initializers whose data lie elsewhere."""
        initializers = list(self._constants.values())
        for weight, (dtype, shape) in self.weights.items():
            tensor = TensorProto(name=weight, data_type=dtype, dims=shape)
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=UNPLACED)
            initializers.append(tensor)
        graph = helper.make_graph(
            self._nodes, "mretrieve", self._inputs, self._outputs, initializer=initializers
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return onnx.helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="mretrieve",
        )
