"""The ONNX graph of a ModernBERT against the torch module that it was written for."""

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession
from transformers import ModernBertConfig, ModernBertModel

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.export_bert import to_int8, to_onnx
from jiesu_nlp.models.fit_bert import token_heads

COLUMNS = 7


def network(**own):
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    shape |= {"vocab_size": 50, "max_position_embeddings": 128, "local_attention": 8, "global_attn_every_n_layers": 2}
    special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    made = token_heads(ModernBertModel(ModernBertConfig(**shape | special | own)), COLUMNS, 0.1).eval()
    for weight in made.parameters():  # as they are made, most are so small that they would not be missed
        torch.nn.init.normal_(weight, std=0.3)
    return made


def run(content, ids):
    return InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"input_ids": ids})[0]


@pytest.mark.parametrize(
    "own",
    [{}, {"attention_bias": True, "mlp_bias": True, "norm_bias": True}, {"global_attn_every_n_layers": 1}],
    ids=["plain", "biases", "global"],
)
def test_the_graph_computes_what_the_module_does(own):
    module = network(**own)
    content = to_onnx(module)
    for n, t in ((1, 1), (3, 5), (2, 8), (2, 9), (1, 64), (4, 127), (1, 128)):
        ids = torch.randint(5, 50, (n, t))
        with torch.no_grad():
            expected = module(ids, torch.ones_like(ids)).numpy()
        np.testing.assert_allclose(run(content, ids.numpy()), expected, atol=1e-4)


def test_a_row_does_not_depend_on_its_batch():
    ids = torch.randint(5, 50, (9, 37)).numpy()
    module = network()
    exact = to_onnx(module)
    for content in (exact, to_int8(exact, ids.tolist())):
        alone = np.concatenate([run(content, ids[i : i + 1]) for i in range(len(ids))])
        assert np.array_equal(run(content, ids), alone)


def test_a_column_that_is_much_larger_does_not_spoil_int8():
    ids = torch.randint(5, 50, (8, 40))

    def worst(module) -> float:
        content = to_onnx(module)
        return float(np.abs(run(to_int8(content, ids.tolist()), ids.numpy()) - run(content, ids.numpy())).max())

    module = network()
    before = worst(module)
    for layer in module.encoder.layers:  # the same function
        layer.mlp.Wi.weight.data[-1] *= 100
        layer.mlp.Wo.weight.data[:, -1] /= 100
    assert worst(module) < 2 * before


def test_the_same_network_gives_the_same_bytes():
    assert to_onnx(network()) == to_onnx(network())


def test_another_activation_is_refused():
    with pytest.raises(ModelFormatError, match="survive"):
        to_onnx(network(hidden_activation="relu"))
