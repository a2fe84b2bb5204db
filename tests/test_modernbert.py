"""Our 8-bit ModernBERT: against the torch module, and compiled against the numpy that defines it."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save
from transformers import ModernBertConfig, ModernBertModel

from jiesu_nlp import native
from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models import export_bert, modernbert
from jiesu_nlp.models.export_bert import to_network
from jiesu_nlp.models.fit_bert import token_heads
from jiesu_nlp.models.load import load_model
from jiesu_nlp.models.modernbert import ModernBert
from jiesu_nlp.models.network import read_network
from jiesu_nlp.models.quantise import quantise
from jiesu_nlp.models.store import model_folder
from jiesu_nlp.native.encoder import levels

COLUMNS = 7
compiled = pytest.mark.skipif(not native.loaded(), reason="installed without a C compiler")
LENGTHS = (1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 127, 128)


def module(codes=COLUMNS, zero=False, **own):
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    shape |= {"vocab_size": 50, "max_position_embeddings": 128, "local_attention": 8, "global_attn_every_n_layers": 2}
    special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    made = token_heads(ModernBertModel(ModernBertConfig(**shape | special | own)), codes, 0.1).eval()
    for weight in made.parameters():  # as they are made, most are so small that they would not be missed
        torch.nn.init.normal_(weight, std=0.15)
    for name, weight in made.named_parameters():
        if "norm" in name and name.endswith("weight"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    if zero:  # a token of nothing, and a column of values of nothing
        made.encoder.embeddings.tok_embeddings.weight.data[:30] = 0
        made.encoder.layers[0].attn.Wqkv.weight.data[-3:] = 0
    return made


def exact(module, ids):
    with torch.no_grad():
        return module(torch.from_numpy(ids), torch.ones(ids.shape, dtype=torch.int64)).numpy()


def some_ids(n, t, entries=50):
    return np.random.default_rng(t).integers(5, entries, (n, t))


def distance(given, expected) -> float:
    return float(np.linalg.norm(given - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("own", [{}, {"global_attn_every_n_layers": 1}, {"num_attention_heads": 4}])
def test_it_computes_what_the_torch_module_does(own):
    torch_module = module(**own)
    network = to_network(torch_module, [])
    assert isinstance(network, ModernBert)
    for t in LENGTHS:
        ids = some_ids(2, t)
        assert distance(network.runner()(ids), exact(torch_module, ids)) < 0.08, t


def test_without_rounding_it_computes_exactly_that(monkeypatch):
    """So that what is left above is what 8 bits cost, and no step is another."""
    torch_module = module()
    network = to_network(torch_module, [])
    weights = dict(network.arrays)
    encoder, heads = torch_module.encoder, torch_module.heads
    plain = {
        "query_key_value": [layer.attn.Wqkv for layer in encoder.layers],
        "attended": [layer.attn.Wo for layer in encoder.layers],
        "gated": [layer.mlp.Wi for layer in encoder.layers],
        "projected": [layer.mlp.Wo for layer in encoder.layers],
    }
    every = {name: np.stack([m.weight.detach().numpy() for m in modules]) for name, modules in plain.items()}
    every |= {"embedding": encoder.embeddings.tok_embeddings.weight.detach().numpy()}
    every |= {"answer": heads.weight.detach().numpy()}
    for name, weight in every.items():
        weights[name], weights[f"{name}_scale"] = weight, np.ones(weight.shape[:-1], np.float32)
    monkeypatch.setattr(modernbert, "_quantised", lambda x: (x, np.ones(x.shape[:-1], np.float32)))
    for t in (1, 9, 128):
        ids = some_ids(2, t)
        assert distance(replace(network, arrays=weights).run(ids), exact(torch_module, ids)) < 2e-3, t


@compiled
@pytest.mark.parametrize(
    "own",
    [
        {},
        {"num_attention_heads": 1},
        {"local_attention": 60},
        {"hidden_size": 128, "intermediate_size": 80, "codes": 70},
        {"num_hidden_layers": 1, "zero": True},
    ],
)
def test_every_way_to_multiply_gives_the_same_bits_as_numpy(own):
    network = quantise(module(**own), [])
    ways = [network.compiled(level) for level in range(levels())]
    for t in LENGTHS:
        ids = some_ids(2, t)
        expected = network.run(ids)
        for level, way in enumerate(ways):
            assert np.array_equal(way.run(ids), expected), (level, t)


@compiled
def test_the_packaged_encoder_answers_the_same_without_a_compiler(monkeypatch):
    model = load_model("accurate")
    texts = ["小区自来水管老化渗水,反映多次没人管", "想咨询个税退税多久到账?" * 15]
    expected = model.predict_proba(texts)
    monkeypatch.setattr(native, "loaded", lambda: None)
    again = load_model("accurate").predict_proba(texts)
    assert all(np.array_equal(again[head], p) for head, p in expected.items())


def test_a_row_does_not_depend_on_its_batch():
    ids, run = some_ids(9, 37), to_network(module(), []).runner()
    assert np.array_equal(run(ids), np.concatenate([run(ids[i : i + 1]) for i in range(len(ids))]))


@pytest.mark.parametrize("own", [{"attention_bias": True}, {"mlp_bias": True}, {"hidden_activation": "relu"}])
def test_what_our_steps_do_not_know_is_refused(own):
    with pytest.raises(ModelFormatError, match="GELU and without biases"):
        to_network(module(**own), [])


def test_layers_that_fill_no_vectors_are_computed_in_numpy():
    torch_module = module(hidden_size=36, num_attention_heads=3, intermediate_size=20)
    network = to_network(torch_module, [])
    assert network.runner() == network.run
    ids = some_ids(2, 9)
    assert distance(network.run(ids), exact(torch_module, ids)) < 0.08


def test_sums_of_many_products_are_exact():
    rng = np.random.default_rng(0)
    a, b = rng.integers(120, 128, (3, 5000)), rng.integers(120, 128, (4, 5000))
    assert np.array_equal(modernbert._product(a, b), (a @ b.T).astype(np.float32))


@pytest.mark.parametrize("times", [16, 50])
def test_columns_that_are_much_larger_do_not_spoil_8_bits(times):
    ids = [row.tolist() for row in some_ids(8, 40)]
    torch_module = module()
    for layer in torch_module.encoder.layers:  # the same function
        layer.mlp.Wi.weight.data[-1] *= times
        layer.mlp.Wo.weight.data[:, -1] /= times
        layer.mlp_norm.weight.data[3] *= times
        layer.mlp.Wi.weight.data[:, 3] /= times
    network = to_network(torch_module, ids)
    assert distance(network.runner()(np.array(ids)), exact(torch_module, np.array(ids))) < 0.08


def test_an_export_that_is_far_from_the_network_is_refused(monkeypatch):
    monkeypatch.setattr(
        export_bert, "quantise", lambda network, rows: replace(quantise(network, rows), reach=(0, 0, 0))
    )
    with pytest.raises(ModelFormatError, match="does not survive the export: its logits are"):
        to_network(module(), [])


def test_the_same_network_gives_the_same_bytes_and_survives_a_pickle():
    network = to_network(module(), [])
    assert network.stored() == to_network(module(), []).stored()
    ids = some_ids(1, 20)
    network.runner()(ids)
    assert np.array_equal(pickle.loads(pickle.dumps(network)).runner()(ids), network.runner()(ids))
    assert np.array_equal(ModernBert.restored(*network.stored()).runner()(ids), network.runner()(ids))


def test_what_does_not_fit_is_refused_before_anything_runs():
    settings, content = to_network(module(), []).stored()
    arrays = load(content)

    def refused(change, **other):
        with pytest.raises(ValueError, match=r"encoder|array"):
            ModernBert.restored(settings | other, save(arrays | change))

    ModernBert.restored(settings, content)
    for name, array in arrays.items():
        refused({name: array[..., :-1].copy()})
        refused({name: array.astype(np.float64)})
        bad = array.copy()
        for value in (-128,) if array.dtype == np.int8 else (np.nan, np.inf, 3e38):
            bad.flat[0] = value
            refused({name: bad})
    for wrong in (
        {"heads": 0},
        {"heads": 3},
        {"heads": 2.0},
        {"reach": [0, -1, 0]},
        {"reach": 3},
        {"epsilon": 0.0},
        {"epsilon": True},
    ):
        refused({}, **wrong)
    refused({}, positions=1 << 40)
    refused({}, positions=0)
    refused({}, positions=65535, reach=[0] * 3 * 999)
    none = {name: array[:0] for name, array in arrays.items() if array.ndim == 3}
    refused(none | {f"{name}_scale": arrays[f"{name}_scale"][:0] for name in none if name != "answer"}, reach=[])
    with pytest.raises(ValueError, match="encoder"):
        ModernBert.restored({}, content)
    with pytest.raises(ValueError, match="encoder"):
        ModernBert.restored(settings, b"no network")


def test_a_token_that_the_encoder_does_not_have_is_refused():
    network = to_network(module(), [])
    for run in (network.run, network.runner()):
        for ids in (np.array([[50]]), np.array([[-1]]), some_ids(1, 129)):
            with pytest.raises(ValueError, match="tokenizer"):
                run(ids)


def test_a_folder_whose_settings_are_of_another_network_is_a_named_error():
    folder = model_folder("accurate") / "bert"
    meta = load_model(folder).meta
    with pytest.raises(ModelFormatError, match="cannot be run"):
        read_network(str(folder), dict(meta) | {"network": dict(meta["network"]) | {"heads": 7}})
