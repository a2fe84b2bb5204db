"""A fine-tuned network as ONNX, in float32 and in int8.

Int8 weights have a scale a column. Activations have one a product, found beforehand on some texts, so
that a token's numbers never depend on what else is in the batch, as they would if it were found anew in
each.
"""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.modernbert_onnx import FUSED, FUSED_VERSION, modernbert_onnx
from jiesu_nlp.models.torch_tools import quiet

_OPSET = 23  # the first with attention as one operation
_EPSILON = 1e-12
_INSIDE = 0.99998
"""Share of a text's activations that the scale spans. The few beyond it are cut off: spanning them too would make
every other value coarser."""


def to_onnx(network: Any) -> bytes:
    """The network of `fit_bert.fit` as an ONNX model: token ids (n, t) to logits (n, t, columns).

    All rows of a batch are of one length, so there is no padding and no mask for it.

    Raises:
        ModelFormatError: what was exported computes something else.
    """
    import torch
    from onnxruntime import InferenceSession

    network.eval().float().cpu()
    config = network.encoder.config
    kind = config.model_type
    content = modernbert_onnx(network) if kind == "modernbert" else _exported(network)
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    beyond = min(config.max_position_embeddings, 3 * (getattr(config, "sliding_window", None) or 16) + 1)
    for ids in (_some_ids(20)[:1], _some_ids(beyond)):  # against the network with its masks, as it was trained
        with torch.no_grad():
            expected = network(ids, torch.ones_like(ids)).numpy()
        (given,) = session.run(None, {"input_ids": ids.numpy()})
        if not np.allclose(given, expected, atol=1e-3 * max(1.0, float(np.abs(expected).max()))):
            raise ModelFormatError(
                f"an encoder of type {kind!r} does not survive the export; take a BERT or ModernBERT"
            )
    return content


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
    _level(model, constants, rows)
    names = sorted({node.input[0] for node in graph.node if _is_product(node, constants)})
    largest = _measure(model, names, rows, lambda value: np.quantile(np.abs(value), _INSIDE))
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
    if all(domain.domain != FUSED for domain in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(FUSED, FUSED_VERSION))
    result: bytes = model.SerializeToString()
    return result


def _is_product(node: Any, constants: Mapping[str, NDArray[Any]]) -> bool:
    return node.op_type == "MatMul" and getattr(constants.get(node.input[1]), "ndim", 0) == 2


def _level(model: Any, constants: dict[str, NDArray[Any]], rows: Sequence[Sequence[int]]) -> None:
    """Make the columns of what a gate lets through about equally large, as SmoothQuant does (Xiao et al. 2023).

    A few columns hold the largest values of the network, and one scale for all would make the others coarse. A factor
    goes from each column into the weights before it, and out of the weights behind it.
    """
    from onnx import numpy_helper

    gated = _gated(model.graph.node, constants)
    columns = _measure(model, [name for _, name, _ in gated], rows, lambda value: np.abs(value).max(axis=(0, 1)))
    for before, name, behind in gated:
        weight = np.abs(constants[behind]).max(axis=1)
        factor = np.sqrt(np.maximum(columns[name], _EPSILON) / np.maximum(weight, _EPSILON)).astype(np.float32)
        constants[before] = constants[before] / factor
        constants[behind] = constants[behind] * factor[:, None]
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(constants[tensor.name], tensor.name))


def _gated(nodes: Sequence[Any], constants: Mapping[str, NDArray[Any]]) -> list[tuple[str, str, str]]:
    """Weights of a gate, what it lets through, and the weights that this alone goes into."""
    made = {node.output[0]: node for node in nodes}
    users = Counter(name for node in nodes for name in node.input)
    found = []
    for node in nodes:
        product = made.get(node.input[0]) if _is_product(node, constants) else None
        gate = made.get(product.input[1]) if product is not None and product.op_type == "Mul" else None
        if gate is not None and _is_product(gate, constants):
            parts = gate.input[1], node.input[0], node.input[1]
            if all(users[name] == 1 for name in (*parts, gate.output[0])):
                found.append(parts)
    return found


def _measure(
    model: Any, names: Sequence[str], rows: Sequence[Sequence[int]], measure: Callable[[NDArray[Any]], Any]
) -> dict[str, Any]:
    """A measure of tensors of the network while it reads rows, its mean over them."""
    import onnx
    from onnxruntime import InferenceSession, SessionOptions

    if not names:
        return {}
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = SessionOptions()
    options.log_severity_level = 3  # it would say of each constant that it is not used twice
    session = InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    total: dict[str, Any] = dict.fromkeys(names, 0.0)
    for row in rows:
        for name, value in zip(names, session.run(list(names), {"input_ids": np.array([row], np.int64)}), strict=True):
            total[name] = total[name] + measure(value) / len(rows)
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
        return [*nodes, helper.make_node("MatMulIntegerToFloat", inputs, [out], domain=FUSED)]

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
