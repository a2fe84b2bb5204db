"""ModernBERT as ONNX, written operation by operation for a CPU and for rows without padding.

What torch's exporter makes of it copies more than it computes. Here queries, keys and values, and the two halves
of the gated layer, are products of their own, so nothing is split; nothing is transposed between operations; and a
layer that sees only its neighbourhood costs the same a token whatever the length of the text: a block of
queries is shown the keys of its own block and of half a block on either side.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FUSED = "com.microsoft"
"""Domain of onnxruntime's own operations."""
FUSED_VERSION = 1
_OPSET = 21
_IR_VERSION = 10
_NEVER = -10000.0


def modernbert_onnx(network: Any) -> bytes:
    """Token ids (n, t) to logits (n, t, columns).

    Args:
        network: torch module of `fit_bert.token_heads` around a ModernBERT with GELU, in float32 on the CPU.
    """
    from onnx import TensorProto, helper

    encoder, config = network.encoder, network.encoder.config
    graph = _Graph()
    x = graph("Gather", _array(encoder.embeddings.tok_embeddings.weight), "input_ids")
    x = _norm(graph, x, encoder.embeddings.norm)
    heads = config.num_attention_heads
    turns = {kind: _rotations(graph, encoder.rotary_emb, kind, config) for kind in sorted(set(config.layer_types))}
    near = _Neighbourhood(graph, config.sliding_window, heads) if "sliding_attention" in turns else None
    for layer in encoder.layers:
        read = _norm(graph, x, layer.attn_norm) if hasattr(layer.attn_norm, "weight") else x  # the first has none
        query, key, value = (_linear(graph, read, layer.attn.Wqkv, part, 3) for part in range(3))
        query, key = (
            graph("RotaryEmbedding", one, *turns[layer.attention_type], domain=FUSED, num_heads=heads)
            for one in (query, key)
        )
        if near is not None and layer.attention_type == "sliding_attention":
            seen = near.attend(query, key, value)
        else:
            seen = graph("MultiHeadAttention", query, key, value, domain=FUSED, num_heads=heads)
        x = graph("Add", x, _linear(graph, seen, layer.attn.Wo))
        read = _norm(graph, x, layer.mlp_norm)
        inner, gate = (_linear(graph, read, layer.mlp.Wi, part, 2) for part in range(2))
        x = graph("Add", x, _linear(graph, graph("Mul", graph("Gelu", inner), gate), layer.mlp.Wo))
    graph("Identity", _linear(graph, _norm(graph, x, encoder.final_norm), network.heads), name="logits")
    given = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "t", network.heads.out_features])
    made = helper.make_graph(graph.nodes, "encoder", [given], [result], graph.tensors)
    domains = [helper.make_opsetid("", _OPSET), helper.make_opsetid(FUSED, FUSED_VERSION)]
    content: bytes = helper.make_model(made, opset_imports=domains, ir_version=_IR_VERSION).SerializeToString()
    return content


class _Graph:
    """Nodes and constants; calling it adds a node and gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def __call__(self, kind: str, *inputs: Any, domain: str = "", name: str = "", **attributes: Any) -> str:
        from onnx import helper

        out = name or f"{kind.lower()}_{len(self.nodes)}"
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        self.nodes.append(helper.make_node(kind, names, [out], domain=domain, **attributes))
        return out

    def constant(self, value: Any) -> str:
        """A constant; Python's integers are 64-bit, its floats 32-bit."""
        from onnx import numpy_helper

        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        name = f"constant_{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(array, name))
        return name


def _array(tensor: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().numpy()
    return array


def _linear(graph: _Graph, x: str, module: Any, part: int = 0, parts: int = 1) -> str:
    """One of `parts` equal shares of a linear layer's outputs."""
    size = module.out_features // parts
    of = slice(part * size, (part + 1) * size)
    out = graph("MatMul", x, _array(module.weight)[of].T)
    return out if module.bias is None else graph("Add", out, _array(module.bias)[of])


def _norm(graph: _Graph, x: str, module: Any) -> str:
    weights = [_array(one) for one in (module.weight, module.bias) if one is not None]
    return graph("LayerNormalization", x, *weights, axis=-1, epsilon=module.eps)


def _rotations(graph: _Graph, rotary: Any, kind: str, config: Any) -> tuple[str, str, str]:
    """First position, and cosine and sine of every position's angles, shape (positions, half a head)."""
    frequencies = _array(getattr(rotary, f"{kind}_inv_freq"))
    angles = np.arange(config.max_position_embeddings, dtype=np.float32)[:, None] * frequencies
    factor = np.float32(getattr(rotary, f"{kind}_attention_scaling"))
    return graph.constant([0]), graph.constant(np.cos(angles) * factor), graph.constant(np.sin(angles) * factor)


class _Neighbourhood:
    """Attention of every token to those at most `reach` away."""

    def __init__(self, graph: _Graph, reach: int, heads: int) -> None:
        self._graph, self._heads = graph, heads
        self._block = block = 2 * reach
        self._span = span = 2 * block
        shape = graph("Shape", "input_ids")
        n, self._length = graph("Slice", shape, [0], [1]), graph("Slice", shape, [1], [2])
        last = graph("Sub", self._length, [1])
        blocks = graph("Div", graph("Add", last, [block]), [block])
        first = graph("Mul", graph("Range", 0, graph("Squeeze", blocks), 1), [block])
        first = graph("Unsqueeze", first, [1])  # (blocks, 1)
        # Places beyond the text are filled with its first or last token, and never seen.
        places = graph("Add", first, np.arange(span)[None] - reach)  # (blocks, span)
        self._keys = graph("Reshape", graph("Clip", places, 0, graph("Squeeze", last)), [-1])
        own = graph("Add", first, np.arange(block)[None])
        self._queries = graph("Reshape", graph("Min", own, last), [-1])
        distance = np.abs(np.arange(block)[:, None] - (np.arange(span)[None] - reach))
        real = graph("And", graph("GreaterOrEqual", places, 0), graph("Less", places, self._length))
        counts = graph("And", (distance <= reach)[None], graph("Unsqueeze", real, [1]))  # (blocks, block, span)
        bias = graph("Unsqueeze", graph("Where", counts, 0.0, _NEVER), [0])
        bias = graph("Expand", bias, graph("Concat", n, [1, 1, 1], axis=0))
        self._bias = graph("Reshape", bias, [-1, 1, block, span])
        self._shape = graph("Concat", n, graph("Mul", blocks, [block]), [-1], axis=0)

    def attend(self, query: str, key: str, value: str) -> str:
        """What each token sees; all of shape (n, t, width)."""
        graph = self._graph
        blocks = graph("Reshape", graph("Gather", query, self._queries, axis=1), [-1, self._block, 0])
        around = (
            graph("Reshape", graph("Gather", one, self._keys, axis=1), [-1, self._span, 0]) for one in (key, value)
        )
        seen = graph("MultiHeadAttention", blocks, *around, "", "", self._bias, domain=FUSED, num_heads=self._heads)
        return graph("Slice", graph("Reshape", seen, self._shape), [0], self._length, [1])
