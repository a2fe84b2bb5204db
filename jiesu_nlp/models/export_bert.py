"""A fine-tuned network as ONNX, in float32 and in int8.

Int8 weights have a scale a column; activations are scaled row by row while the network runs, so that a
token's numbers never depend on what else is in the batch, as they would with one scale a tensor.
"""

import io
import warnings
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.torch_tools import quiet

_EPSILON = 1e-12
_NEVER = -10000.0
"""Added to a score, it leaves nothing of a weight."""


def to_onnx(network: Any) -> bytes:
    """The network of `fit_bert.fit` as an ONNX model: ids and mask (n, t) to logits (n, t, columns).

    Raises:
        ModelFormatError: what was exported computes something else, as with an architecture that reads masks
            in a way of its own.
    """
    import torch
    from onnxruntime import InferenceSession

    class Padded(torch.nn.Module):
        """With padding hidden by adding to the scores, the same in every architecture and simple to export."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = (1.0 - attention_mask[:, None, None, :].float()) * _NEVER
            if not local:
                return self.network(input_ids, hidden)
            at = torch.arange(input_ids.shape[1])
            far = ((at[:, None] - at[None, :]).abs() > local)[None, None].float() * _NEVER
            return self.network(input_ids, {"full_attention": hidden, "sliding_attention": hidden + far})

    # Layers that see only their neighbourhood (ModernBERT's) take a mask of their own.
    local = getattr(network.encoder.config, "sliding_window", None)
    network.encoder.set_attn_implementation("eager")
    model = Padded().eval().float().cpu()
    ids = torch.randint(5, 20, (2, 48), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 30:] = 0
    n, t = torch.export.Dim("n"), torch.export.Dim("t", max=network.encoder.config.max_position_embeddings)
    with quiet(), warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (ids, mask),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": {0: n, 1: t}, "attention_mask": {0: n, 1: t}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    content: bytes = program.model_proto.SerializeToString()
    with torch.no_grad():
        expected = network(ids, mask)[mask.bool()].numpy()
    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    given = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0][mask.numpy() == 1]
    if not np.allclose(given, expected, atol=1e-3 * max(1.0, float(np.abs(expected).max()))):
        kind = network.encoder.config.model_type
        raise ModelFormatError(f"an encoder of type {kind!r} does not survive the export; take a BERT or ModernBERT")
    return content


def to_int8(content: bytes) -> bytes:
    """The same network with int8 weights: products by constant matrices, and tables that are looked up."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    graph_builder = _Int8Builder()
    nodes: list[Any] = []
    for node in graph.node:
        weight = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        table = constants.get(node.input[0]) if node.op_type == "Gather" else None
        if weight is not None and weight.ndim == 2:
            nodes += graph_builder.product(node, weight)
        elif table is not None and table.ndim == 2 and table.dtype == np.float32:
            nodes += graph_builder.lookup(node, table)
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *graph_builder.tensors()])
    result: bytes = model.SerializeToString()
    return result


class _Int8Builder:
    """Nodes that compute in int8, and the tensors that they need."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {
            "int8_127": np.array(127, np.float32),
            "int8_one": np.array(1, np.float32),
            "int8_epsilon": np.array(_EPSILON, np.float32),
            "int8_zero": np.array(128, np.uint8),
            "int8_last": np.array([-1], np.int64),
        }
        self._scaled: dict[str, tuple[str, str]] = {}

    def tensors(self) -> list[Any]:
        """Every constant that the nodes use."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(array, name) for name, array in self._arrays.items()]

    def product(self, node: Any, weight: NDArray[np.float32]) -> list[Any]:
        """Nodes for ``rows @ weight``."""
        from onnx import TensorProto, helper

        rows, name, out = node.input[0], node.input[1], node.output[0]
        scale = np.maximum(np.abs(weight).max(axis=0), _EPSILON) / 127
        self._arrays[f"{name}_int8"] = np.round(weight / scale).astype(np.int8)
        self._arrays[f"{name}_scale"] = scale.astype(np.float32)
        nodes = []
        if rows not in self._scaled:  # queries, keys and values share their rows
            nodes = self._quantise(rows)
        integers, row_scale = self._scaled[rows]
        return [
            *nodes,
            helper.make_node("MatMulInteger", [integers, f"{name}_int8", "int8_zero"], [f"{out}_int32"]),
            helper.make_node("Cast", [f"{out}_int32"], [f"{out}_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [row_scale, f"{name}_scale"], [f"{out}_scale"]),
            helper.make_node("Mul", [f"{out}_float", f"{out}_scale"], [out]),
        ]

    def _quantise(self, rows: str) -> list[Any]:
        """Nodes for integers and scale of each row: its largest absolute value becomes 127."""
        from onnx import helper

        def named(part: str) -> str:
            return f"{rows}_{part}"

        self._scaled[rows] = named("uint8"), named("row_scale")
        steps = (
            ("Abs", [rows], "abs"),
            ("ReduceMax", [named("abs"), "int8_last"], "largest"),
            ("Max", [named("largest"), "int8_epsilon"], "safe"),
            ("Div", [named("safe"), "int8_127"], "row_scale"),
            ("Div", [rows, named("row_scale")], "scaled"),
            ("QuantizeLinear", [named("scaled"), "int8_one", "int8_zero"], "uint8"),
        )
        return [helper.make_node(kind, inputs, [named(output)]) for kind, inputs, output in steps]

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
