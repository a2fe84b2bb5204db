"""A fine-tuned ModernBERT in 8-bit integers, from the torch module."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.base import FloatArray
from jiesu_nlp.models.modernbert import ModernBert
from jiesu_nlp.models.torch_tools import exact

_LEVELS = 127
_TINY = 1e-12


def check_kind(encoder: Any) -> None:
    """Look whether an encoder of torch is one that can be kept.

    Raises:
        ModelFormatError: a ModernBERT with what `ModernBert` does not compute.
    """
    config = encoder.config
    if config.model_type != "modernbert":
        return
    scalings = {getattr(encoder.rotary_emb, f"{kind}_attention_scaling") for kind in config.layer_types}
    biases = config.attention_bias or config.mlp_bias or config.norm_bias
    if config.hidden_activation != "gelu" or biases or scalings != {1.0}:
        raise ModelFormatError("take a ModernBERT with GELU and without biases, as published ones are, or a BERT")


def quantise(network: Any, rows: Sequence[Sequence[int]]) -> ModernBert:
    """A network of `fit_bert.token_heads`, its weights and its embedding in 8 bits, a scale an output or entry.

    Args:
        rows: token ids of some texts like those that it will read; they say which columns become large.

    Raises:
        ModelFormatError: it has what `ModernBert` does not compute.
    """
    encoder, config = network.encoder, network.encoder.config
    check_kind(encoder)
    layers = encoder.layers
    products = {
        "query_key_value": [layer.attn.Wqkv for layer in layers],
        "attended": [layer.attn.Wo for layer in layers],
        "gated": [layer.mlp.Wi for layer in layers],
        "projected": [layer.mlp.Wo for layer in layers],
        "answer": [network.heads],
    }
    weights = {name: np.stack([_array(module.weight) for module in each]) for name, each in products.items()}
    norms = [one for layer in layers for one in (layer.attn_norm, layer.mlp_norm)]
    norms = [encoder.embeddings.norm, *norms, encoder.final_norm]
    none = np.ones(config.hidden_size, np.float32)  # the first layer has none before its attention
    gains = np.stack([_array(norm.weight) if hasattr(norm, "weight") else none for norm in norms])
    if rows:
        _level(weights, gains, _largest(network, products, rows))
    weights["answer"], weights["embedding"] = weights["answer"][0], _array(encoder.embeddings.tok_embeddings.weight)
    arrays: dict[str, Any] = {"norms": gains, "answer_bias": _array(network.heads.bias)}
    for name, weight in weights.items():
        scale = np.maximum(np.abs(weight).max(axis=-1), _TINY) / _LEVELS
        arrays[name] = np.rint(weight / scale[..., None]).astype(np.int8)
        arrays[f"{name}_scale"] = scale.astype(np.float32)
    kinds = config.layer_types
    arrays["frequencies"] = np.stack([_array(getattr(encoder.rotary_emb, f"{kind}_inv_freq")) for kind in kinds])
    reach = tuple(config.sliding_window if kind == "sliding_attention" else 0 for kind in kinds)
    epsilon = float(encoder.final_norm.eps)
    made = ModernBert(arrays, config.num_attention_heads, epsilon, reach, config.max_position_embeddings)
    try:
        made.check()
    except ValueError as error:
        raise ModelFormatError(f"the encoder cannot be kept in 8 bits: {error}") from error
    return made


def _array(tensor: Any) -> FloatArray:
    array: FloatArray = tensor.detach().float().numpy().copy()
    return array


def _largest(
    network: Any, products: Mapping[str, Sequence[Any]], rows: Sequence[Sequence[int]]
) -> dict[str, FloatArray]:
    """What is the largest in each column of what goes into products, its mean over rows; each (modules, columns)."""
    largest = {name: np.zeros((len(modules), modules[0].in_features), np.float32) for name, modules in products.items()}

    def look(total: FloatArray) -> Any:
        def hook(module: Any, given: Any) -> None:
            total[:] += given[0].detach().abs().amax(dim=(0, 1)).numpy() / len(rows)

        return hook

    handles = [
        module.register_forward_pre_hook(look(largest[name][i]))
        for name, modules in products.items()
        for i, module in enumerate(modules)
    ]
    run = exact(network)
    for row in rows:
        run(np.array([row], np.int64))
    for handle in handles:
        handle.remove()
    return largest


def _level(weights: dict[str, FloatArray], gains: FloatArray, largest: dict[str, FloatArray]) -> None:
    """Make the columns of what goes into products about equally large, as SmoothQuant does (Xiao et al. 2023).

    A few columns can hold the largest values, and a token's one scale would make the others coarse. A factor goes
    from each column into what it is made of, and out of the weights behind it: the same function.
    """
    layers, width, inner = len(largest["gated"]), gains.shape[1], largest["projected"].shape[1]
    for layer in range(layers):
        parts = {
            "attended": weights["query_key_value"][layer, 2 * width :],
            "gated": gains[2 * layer + 2][:, None],
            "projected": weights["gated"][layer, inner:],
        }
        if layer:  # what the first layer's attention reads is passed on as it is
            parts["query_key_value"] = gains[2 * layer + 1][:, None]
        for name, before in parts.items():
            _fold(before, weights[name][layer], largest[name][layer])
    _fold(gains[-1][:, None], weights["answer"][0], largest["answer"][0])


def _fold(before: FloatArray, behind: FloatArray, largest: FloatArray) -> None:
    """Move a factor a column, in place: from the rows of `before` into the columns of `behind`."""
    factor = np.sqrt(np.maximum(largest, _TINY) / np.maximum(np.abs(behind).max(axis=0), _TINY))
    before /= factor[:, None]
    behind *= factor
