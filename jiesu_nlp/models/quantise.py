"""A fine-tuned ModernBERT in 8-bit integers, from the torch module."""

from typing import Any

import numpy as np

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.base import FloatArray
from jiesu_nlp.models.modernbert import ModernBert

_LEVELS = 127
_TINY = 1e-12


def quantise(network: Any) -> ModernBert:
    """A network of `fit_bert.token_heads`, its weights and its embedding in 8 bits, a scale an output or entry.

    Raises:
        ModelFormatError: it has what `ModernBert` does not compute.
    """
    encoder, config = network.encoder, network.encoder.config
    scalings = {getattr(encoder.rotary_emb, f"{kind}_attention_scaling") for kind in config.layer_types}
    biases = config.attention_bias or config.mlp_bias or config.norm_bias
    if config.hidden_activation != "gelu" or biases or scalings != {1.0}:
        raise ModelFormatError("take a ModernBERT with GELU and without biases, as published ones are, or a BERT")
    layers = encoder.layers
    products = {
        "query_key_value": [layer.attn.Wqkv for layer in layers],
        "attended": [layer.attn.Wo for layer in layers],
        "gated": [layer.mlp.Wi for layer in layers],
        "projected": [layer.mlp.Wo for layer in layers],
    }
    weights = {name: np.stack([_array(module.weight) for module in each]) for name, each in products.items()}
    weights |= {"embedding": _array(encoder.embeddings.tok_embeddings.weight), "answer": _array(network.heads.weight)}
    arrays: dict[str, Any] = {}
    for name, weight in weights.items():
        scale = np.maximum(np.abs(weight).max(axis=-1), _TINY) / _LEVELS
        arrays[name] = np.rint(weight / scale[..., None]).astype(np.int8)
        arrays[f"{name}_scale"] = scale.astype(np.float32)
    norms = [one for layer in layers for one in (layer.attn_norm, layer.mlp_norm)]
    norms = [encoder.embeddings.norm, *norms, encoder.final_norm]
    none = np.ones(config.hidden_size, np.float32)  # the first layer has none before its attention
    arrays["norms"] = np.stack([_array(norm.weight) if hasattr(norm, "weight") else none for norm in norms])
    kinds = config.layer_types
    arrays["frequencies"] = np.stack([_array(getattr(encoder.rotary_emb, f"{kind}_inv_freq")) for kind in kinds])
    arrays["answer_bias"] = _array(network.heads.bias)
    reach = tuple(config.sliding_window if kind == "sliding_attention" else 0 for kind in kinds)
    epsilon = float(encoder.final_norm.eps)
    return ModernBert(arrays, config.num_attention_heads, epsilon, reach, config.max_position_embeddings)


def _array(tensor: Any) -> FloatArray:
    array: FloatArray = tensor.detach().float().numpy()
    return array
