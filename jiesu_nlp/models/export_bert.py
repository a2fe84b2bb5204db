"""A fine-tuned network as it is kept: a ModernBERT for our own products (`quantise`), any other in ONNX.

In ONNX, int8 weights have a scale a column. Activations have one a product, found beforehand on some texts, so
that a token's numbers never depend on what else is in the batch, as they would if it were found anew in
each.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.network import Network, OnnxNetwork, Run
from jiesu_nlp.models.quantise import quantise
from jiesu_nlp.models.torch_tools import exact, quiet

_FUSED, _FUSED_VERSION = "com.microsoft", 1
"""onnxruntime's own operations."""
_OPSET = 23  # the first with attention as one operation
_EPSILON = 1e-12
_SAME, _NEAR = 1e-3, 0.1
"""How far an export may be from the network, as a share of its logits' length: in float32, in 8-bit integers."""
_SHOWN = 64
"""Texts on which two ways to quantise are compared."""
_INSIDE = 0.99998
"""Share of a text's activations that the scale spans. The few beyond it are cut off: spanning them too would make
every other value coarser."""


def to_network(network: Any, rows: Sequence[Sequence[int]]) -> Network:
    """What the network of `fit_bert.fit` is kept as, in 8-bit integers.

    Args:
        rows: token ids of some texts like those that it will read.

    Raises:
        ModelFormatError: what was made of it computes something else, or it is a ModernBERT of an unusual kind.
    """
    network.eval().float().cpu()
    if network.encoder.config.model_type != "modernbert":
        return OnnxNetwork(to_int8(to_onnx(network), rows))
    shown = [np.array([row], np.int64) for row in rows[:_SHOWN]]
    ways = [quantise(network, some) for some in ((), rows)]  # columns levelled, where that brings it nearer
    made = min(ways, key=lambda way: _distance(network, way.runner(), shown)) if shown else ways[0]
    _compare(network, made.runner(), _NEAR)
    return made


def to_onnx(network: Any) -> bytes:
    """The network of `fit_bert.fit` as an ONNX model: token ids (n, t) to logits (n, t, columns).

    All rows of a batch are of one length, so there is no padding and no mask for it.

    Raises:
        ModelFormatError: what was exported computes something else.
    """
    network.eval().float().cpu()
    content = _exported(network)
    _compare(network, OnnxNetwork(content).runner(), _SAME)
    return content


def _compare(network: Any, run: Run, tolerance: float) -> None:
    """Against the network with its masks, as it was trained."""
    config = network.encoder.config
    beyond = min(config.max_position_embeddings, 3 * (getattr(config, "sliding_window", None) or 16) + 1)
    for ids in (_some_ids(20)[:1], _some_ids(beyond)):
        if not (away := _distance(network, run, [ids.numpy()])) <= tolerance:
            raise ModelFormatError(
                f"an encoder of type {config.model_type!r} does not survive the export: its logits are {away:.1%} away "
                f"from the network's, where {tolerance:.1%} would do; take another BERT or ModernBERT"
            )


def _distance(network: Any, run: Run, batches: Sequence[NDArray[np.int64]]) -> float:
    """How far an export's logits are from the network's, as a share of their length."""
    apart, length, run_exact = [], [], exact(network)
    for ids in batches:
        expected = run_exact(ids)
        apart.append(np.linalg.norm(run(ids) - expected))
        length.append(np.linalg.norm(expected))
    return float(np.linalg.norm(apart) / np.linalg.norm(length))


def _some_ids(tokens: int) -> Any:
    import torch

    return torch.randint(5, 20, (2, tokens), generator=torch.Generator().manual_seed(0))


def _exported(network: Any) -> bytes:
    """What torch's own exporter makes of it."""
    import torch

    class Unpadded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any) -> Any:
            return self.network.heads(self.network.encoder(input_ids=input_ids).last_hidden_state)

    n, t = torch.export.Dim("n"), torch.export.Dim("t", max=network.encoder.config.max_position_embeddings)
    silence = (quiet(), warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()))
    with ExitStack() as stack:
        for context in silence:
            stack.enter_context(context)
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Unpadded().eval(),
            (_some_ids(48),),
            input_names=["input_ids"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": {0: n, 1: t}},
            dynamo=True,
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
    return bare(program.model_proto.SerializeToString())


def bare(content: bytes) -> bytes:
    """An ONNX model without what the exporter says of its origin: paths of this machine, above all."""
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, graph, model):
        del part.metadata_props[:]
        part.doc_string = ""
    del graph.value_info[:]
    result: bytes = model.SerializeToString()
    return result


def to_int8(content: bytes, rows: Sequence[Sequence[int]]) -> bytes:
    """The same network with products by constant matrices in int8, and tables that are looked up kept so.

    Args:
        rows: token ids of some texts like those that it will read; they say how large activations become.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    names = sorted({node.input[0] for node in graph.node if _is_product(node, constants)})
    largest = _largest(model, names, rows)
    builder = _Int8Builder({name: max(float(value), _EPSILON) for name, value in largest.items()})
    nodes: list[Any] = []
    for node in graph.node:
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        if _is_product(node, constants):
            nodes += builder.product(node, constants[node.input[1]])
        elif table is not None and table.ndim == 2 and table.dtype == np.float32:
            nodes += builder.lookup(node, table)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *builder.tensors()])
    if all(domain.domain != _FUSED for domain in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(_FUSED, _FUSED_VERSION))
    result: bytes = model.SerializeToString()
    return result


def _is_product(node: Any, constants: Mapping[str, NDArray[Any]]) -> bool:
    return node.op_type == "MatMul" and getattr(constants.get(node.input[1]), "ndim", 0) == 2


def _largest(model: Any, names: Sequence[str], rows: Sequence[Sequence[int]]) -> dict[str, float]:
    """How large tensors of the network become while it reads rows, the mean over them."""
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = SessionOptions()
    options.log_severity_level = 3  # it would say of each constant that it is not used twice
    session = InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    total = dict.fromkeys(names, 0.0)
    for row in rows:
        for name, value in zip(names, session.run(list(names), {"input_ids": np.array([row], np.int64)}), strict=True):
            total[name] += float(np.quantile(np.abs(value), _INSIDE)) / len(rows)
    return total


class _Int8Builder:
    """Nodes that compute in int8, and the tensors that they need."""

    def __init__(self, largest: Mapping[str, float]) -> None:
        self._largest = largest
        self._arrays: dict[str, NDArray[Any]] = {"int8_zero": np.array(128, np.uint8)}

    def tensors(self) -> list[Any]:
        """Every constant that the nodes use."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(array, name) for name, array in self._arrays.items()]

    def product(self, node: Any, weight: NDArray[np.float32]) -> list[Any]:
        """Nodes for ``rows @ weight``."""
        from onnx import helper

        rows, name, out = node.input[0], node.input[1], node.output[0]
        scale = np.maximum(np.abs(weight).max(axis=0), _EPSILON) / 127
        self._arrays[f"{name}_int8"] = np.round(weight / scale).astype(np.int8)
        self._arrays[f"{name}_scale"] = scale.astype(np.float32)
        nodes = []
        if f"{rows}_scale" not in self._arrays:  # queries, keys and values share their rows
            self._arrays[f"{rows}_scale"] = np.array(self._largest[rows] / 127, np.float32)
            nodes.append(helper.make_node("QuantizeLinear", [rows, f"{rows}_scale", "int8_zero"], [f"{rows}_uint8"]))
        inputs = [f"{rows}_uint8", f"{name}_int8", f"{rows}_scale", f"{name}_scale", "int8_zero"]
        return [*nodes, helper.make_node("MatMulIntegerToFloat", inputs, [out], domain=_FUSED)]

    def lookup(self, node: Any, table: NDArray[np.float32]) -> list[Any]:
        """Nodes for rows of a table whose scale is a row's own."""
        from onnx import TensorProto, helper

        name, index, out = node.input[0], node.input[1], node.output[0]
        scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), _EPSILON) / 127
        self._arrays[f"{name}_int8"] = np.round(table / scale).astype(np.int8)
        self._arrays[f"{name}_scale"] = scale.astype(np.float32)
        return [
            helper.make_node("Gather", [f"{name}_int8", index], [f"{out}_int8"]),
            helper.make_node("Gather", [f"{name}_scale", index], [f"{out}_scale"]),
            helper.make_node("Cast", [f"{out}_int8"], [f"{out}_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{out}_float", f"{out}_scale"], [out]),
        ]
