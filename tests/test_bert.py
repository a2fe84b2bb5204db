"""The encoder: from a checkpoint in the hub's own layout to a model folder that answers without torch."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors.numpy import load_file
from typer.testing import CliRunner

from jiesu_nlp import Classifier
from jiesu_nlp.cli import app
from jiesu_nlp.corpus import read_source
from jiesu_nlp.errors import ModelFormatError, TrainingDataError
from jiesu_nlp.evaluate import evaluate
from jiesu_nlp.model_card import model_card
from jiesu_nlp.models.bert import BertModel
from jiesu_nlp.models.fit_bert import FineTuneConfig
from jiesu_nlp.models.load import load_model
from jiesu_nlp.models.network import OnnxNetwork
from jiesu_nlp.models.store import model_folder
from jiesu_nlp.models.torch_tools import convert
from jiesu_nlp.models.wordpiece import Reading, readable
from jiesu_nlp.pretrain import PretrainConfig, pretrain
from jiesu_nlp.relabel import relabel
from jiesu_nlp.serve.app import create_app
from jiesu_nlp.serve.settings import Settings
from jiesu_nlp.taxonomy import Taxonomy
from jiesu_nlp.train import train

LEAK = "小区自来水管老化渗水,居民用水困难,反映多次没人管"
TEXTS = [LEAK, "学校门口放学时车太多" * 30, "想咨询个税退税多久到账?", "派出所一直不给办居住证。" * 9, LEAK[:9]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory, small_tables):
    """A tiny BERT as the hub keeps one: config.json, vocab.txt, tokenizer_config.json, model.safetensors."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint")
    text = "".join(readable(line) for path in small_tables for line in path.read_text(encoding="utf-8").splitlines())
    characters = sorted(set(text) - {" "})
    spelling = [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *spelling]
    shape = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertForMaskedLM(shape).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 512})
    )
    return folder


def quick(checkpoint, **own) -> FineTuneConfig:
    settings = {"epochs": 3, "rate": 3e-3, "reading": Reading(length=64, windows=2)}
    return FineTuneConfig(base=str(checkpoint), **settings | own)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory, checkpoint, small_table):
    folder = tmp_path_factory.mktemp("bert")
    train(small_table, folder, kind="bert", bert=quick(checkpoint))
    return folder


@pytest.fixture(scope="session")
def blend_folder(tmp_path_factory, checkpoint, small_table):
    folder = tmp_path_factory.mktemp("blend")
    train(small_table, folder, kind="blend", bert=quick(checkpoint, loss="focal", class_weights=True))
    return folder


def test_a_fine_tuned_encoder_learns_and_says_what_int8_cost(bert_folder):
    meta = load_model(bert_folder).meta
    first, last = meta["fit"]["curve"][0], meta["fit"]["curve"][-1]
    assert last["loss"] < first["loss"]
    for head, cost in meta["fit"]["int8"].items():
        assert cost["max_difference"] < 0.2, head
        assert abs(cost["macro_f1_int8"] - cost["macro_f1_torch"]) < 0.2, head
    assert meta["data"]["judged"] < meta["data"]["rows"]
    assert (bert_folder / "curve.svg").read_text(encoding="utf-8").startswith("<svg")
    assert not (bert_folder / "checkpoints").exists()
    assert "held out" in (bert_folder / "MODEL_CARD.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["bert", "blend"])
def test_the_answer_is_the_same_by_every_route(kind, request):
    folder = request.getfixturevalue(f"{kind}_folder")
    model = load_model(folder)
    together = model.predict_proba(TEXTS)
    for head, p in together.items():
        assert np.allclose(p.sum(axis=1), 1, atol=1e-5)
        alone = np.vstack([model.predict_proba([text])[head] for text in TEXTS])
        assert np.array_equal(p, alone), head
    classifier = Classifier(model)
    one = classifier.classify(LEAK)
    assert one == classifier.classify_batch(TEXTS, batch_size=2)[0] == classifier.classify(TEXTS[::-1])[-1]
    assert one.explanation


def test_a_network_says_nothing_of_the_machine_that_made_it(bert_folder):
    for file in (bert_folder / "network.onnx", model_folder("accurate") / "bert" / "network.safetensors"):
        assert not re.search(rb"\.py\b|/home/|/root/|/tmp/", file.read_bytes())


def test_the_packaged_accurate_model_is_small_and_answers():
    folder = model_folder("accurate")
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 16_000_000
    model, default = load_model("accurate"), load_model()
    assert model.taxonomy.hash == default.taxonomy.hash == Taxonomy.load().hash
    assert model.meta["data"]["fingerprint"] == default.meta["data"]["fingerprint"]
    assert model.meta["metrics"]["category"]["macro_f1"] > model.meta["fit"]["parts"]["tfidf"]["category"]["macro_f1"]
    answer = Classifier.load("accurate").classify(LEAK)
    assert answer.department.code == "water" and answer.model.name == "accurate" and answer.explanation
    kept = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert kept == model_card(model.meta, model.taxonomy.to_dict())


def test_many_threads_get_the_same_answers(bert_folder):
    model = load_model(bert_folder)
    expected = model.predict_proba(TEXTS)["department"]

    def same(i: int) -> bool:
        return np.array_equal(model.predict_proba([TEXTS[i]])["department"][0], expected[i])

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(same, list(range(len(TEXTS))) * 20))


def test_answering_imports_neither_torch_nor_transformers(bert_folder):
    code = (
        "import sys; from jiesu_nlp import Classifier;"
        f"print(Classifier.load({str(bert_folder)!r}).classify({LEAK!r}).category.code);"
        "sys.exit(bool({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_contributions_of_words_add_up_to_the_decision(bert_folder):
    model = load_model(bert_folder)
    text = "学校门口没有红绿灯"
    read = model.vectorise([text])
    head, codes = "department", model.taxonomy.codes("department")
    first = sum(map(len, list(model.taxonomy.heads.values())[: list(model.taxonomy.heads).index(head)]))
    of = slice(first, first + len(codes))
    logits = (model.logits(read) - model.bias)[0, of]
    for code in (codes[0], codes[-1]):
        (words,) = model.explain(read, head, [code], top=100)
        tokens = read.logits[0][:, of] * model.scale[of] / len(read.logits[0])
        ends = (tokens - tokens.mean(axis=1, keepdims=True))[[0, -1], codes.index(code)].sum()
        assert sum(w for _, w in words) + ends == pytest.approx(logits[codes.index(code)] - logits.mean(), abs=1e-4)
        assert {word for word, _ in words} <= {"学校", "门口", "没有", "红绿灯"}


def test_a_blend_knows_its_parts_and_their_weights(blend_folder):
    model = load_model(blend_folder)
    assert set(model.weights) == set(model.taxonomy.heads)
    assert all(w >= 0 for pair in model.weights.values() for w in pair)
    assert model.meta["fit"]["weights"]["department"] == pytest.approx(list(model.weights["department"]), abs=1e-4)
    metrics, parts = model.meta["metrics"]["department"], model.meta["fit"]["parts"]
    assert metrics["top1"] >= min(part["department"]["top1"] for part in parts.values()) - 0.1
    (explained,) = model.explain(model.vectorise([LEAK]), "department", ["water"])
    assert explained == sorted(explained, key=lambda pair: -abs(pair[1]))


@pytest.mark.parametrize("name", ["network.onnx", "tokenizer.json"])
def test_a_damaged_file_is_a_named_error(name, bert_folder, tmp_path):
    model = load_model(bert_folder)
    model.save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(ModelFormatError, match="do not belong together"):
        load_model(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelFormatError, match="cannot be read"):
        load_model(tmp_path)


def test_files_that_do_not_fit_each_other_are_found_when_loading(bert_folder, tmp_path):
    model = load_model(bert_folder)
    BertModel(model.taxonomy, OnnxNetwork(b"no network"), model.tokenizer, model.scale, model.bias).save(tmp_path / "a")
    with pytest.raises(ModelFormatError, match="cannot be run"):
        load_model(tmp_path / "a")
    BertModel(model.taxonomy, model.network, b"{}", model.scale, model.bias).save(tmp_path / "b")
    with pytest.raises(ModelFormatError, match="cannot be run"):
        load_model(tmp_path / "b")


def test_a_blend_with_a_part_of_another_is_refused(blend_folder, bert_folder, tmp_path):
    import shutil

    shutil.copytree(blend_folder, tmp_path / "m")
    shutil.rmtree(tmp_path / "m" / "bert")
    shutil.copytree(bert_folder, tmp_path / "m" / "bert")
    with pytest.raises(ModelFormatError, match="do not belong together"):
        load_model(tmp_path / "m")


def test_a_run_that_was_stopped_goes_on(checkpoint, small_table, tmp_path):
    def stop(message: str) -> None:
        seen.append(message)
        if "eval_macro_f1" in message and "step 16/" in message:
            raise KeyboardInterrupt

    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        train(small_table, tmp_path, kind="bert", bert=quick(checkpoint), progress=stop)
    assert not (tmp_path / "model.json").exists()
    with pytest.raises(TrainingDataError, match="another run"):
        train(small_table, tmp_path, kind="bert", bert=quick(checkpoint, dropout=0.3))
    torn = tmp_path / "checkpoints" / "checkpoint-99"  # as a kill in the middle of writing leaves it
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    seen.clear()
    kept = str(tmp_path / "kept")  # where a copy goes makes no other run of it
    train(small_table, tmp_path, kind="bert", bert=quick(checkpoint, keep=kept), progress=seen.append)
    assert not any(message.startswith("step 1/") for message in seen)
    assert load_model(tmp_path).meta["fit"]["curve"][-1]["epoch"] == 3


def test_hidden_tokens_teach_nothing(bert_folder, checkpoint, small_table, tmp_path):
    train(small_table, tmp_path, kind="bert", bert=quick(checkpoint, hidden=1.0))
    blind, seeing = (load_model(folder).meta["fit"]["curve"][-1]["loss"] for folder in (tmp_path, bert_folder))
    assert seeing < blind


def test_a_student_learns_from_a_teacher(blend_folder, checkpoint, small_table, small_tables, tmp_path):
    report = train(
        small_table,
        tmp_path,
        kind="bert",
        bert=quick(checkpoint, epochs=1),
        teacher=load_model(blend_folder),
        unlabelled=small_tables,
    )
    # The unlabelled texts are those of the table: a copy of a row that was held out has not been taught.
    held = {report.examples.texts[i] for i in np.flatnonzero(report.judged)}
    unlabelled = [t for t, s in zip(report.examples.texts, report.examples.source, strict=True) if s != "small.jsonl"]
    assert 0 < report.how["taught"] <= sum(text not in held for text in unlabelled) < len(unlabelled)


def test_distilling_needs_a_teacher_with_the_same_labels(checkpoint, small_table, bert_folder, tmp_path):
    for half in ({"unlabelled": small_table}, {"teacher": load_model(bert_folder)}):
        with pytest.raises(TrainingDataError, match="go together"):
            train(small_table, tmp_path, kind="bert", bert=quick(checkpoint), **half)
    other = tmp_path / "t.csv"
    other.write_text("text,colour\n" + "".join(f"颜色真好看{i},{'红绿'[i % 2]}\n" for i in range(40)), encoding="utf-8")
    with pytest.raises(TrainingDataError, match="colour"):
        train(
            [other],
            tmp_path / "m",
            labels=["colour"],
            kind="bert",
            bert=quick(checkpoint),
            teacher=load_model(bert_folder),
            unlabelled=small_table,
        )


def test_an_encoder_of_our_own_kind_survives_the_export(small_table, tmp_path):
    """ModernBERT, whose every other layer sees only its neighbourhood: texts longer than that, padded and not."""
    corpus = [read_source(str(path)) for path in small_table]
    shape = PretrainConfig(layers=2, width=32, heads=2, length=64, batch=8, steps=5)
    pretrain(corpus, tmp_path / "encoder", config=shape)
    report = train(small_table, tmp_path / "m", kind="bert", bert=quick(tmp_path / "encoder", epochs=1))
    assert all(cost["max_difference"] < 0.2 for cost in report.how["int8"].values())
    model = load_model(tmp_path / "m")
    both = [LEAK * 3, LEAK[:20]]
    assert np.array_equal(model.predict_proba(both)["intent"][1], model.predict_proba(both[1:])["intent"][0])
    with pytest.raises(ModelFormatError, match="at most 512"):
        train(
            small_table, tmp_path / "n", kind="bert", bert=quick(tmp_path / "encoder", reading=Reading(length=600))
        )  # fmt: skip


def test_a_model_goes_to_another_process(bert_folder):
    import os
    import pickle

    model = load_model(bert_folder)
    expected = model.predict_proba([LEAK])["intent"]
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba([LEAK])["intent"], expected)
    child = os.fork()
    if child == 0:  # a fork has the batcher, but none of its threads
        os._exit(0 if np.array_equal(model.predict_proba([LEAK])["intent"], expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_server_answers_many_at_once_with_an_encoder(blend_folder, tmp_path):
    settings = Settings(
        _env_file=None, feedback=tmp_path / "f.db", files=tmp_path / "files", model=blend_folder, threads=4
    )
    expected = [answer.to_dict() for answer in Classifier.load(blend_folder).classify(TEXTS)]
    with TestClient(create_app(settings)) as client, ThreadPoolExecutor(12) as pool:
        asked = [i % len(TEXTS) for i in range(40)]
        answers = pool.map(lambda i: client.post("/v1/classify", json={"text": TEXTS[i]}).json(), asked)
        assert [expected[i] for i in asked] == list(answers)


def test_any_label_set_trains(checkpoint, small_table, tmp_path):
    config = quick(checkpoint, gradient_checkpointing=True, epochs=1)
    train(small_table, tmp_path, labels=["wish=intent"], kind="bert", bert=config)
    model = load_model(tmp_path)
    assert "complaint" in model.taxonomy.codes("wish")
    assert evaluate(model, small_table[0], labels=["wish=intent"])["heads"]["wish"]["figures"]["rows"] > 100


def test_what_an_encoder_learned_of_one_label_set_is_a_base_for_another(checkpoint, small_table, tmp_path):
    kept = tmp_path / "kept"
    train(small_table, tmp_path / "a", kind="bert", bert=quick(checkpoint, keep=str(kept), epochs=1))
    assert str(tmp_path) not in (tmp_path / "a" / "model.json").read_text(encoding="utf-8")
    before, after = (load_file(folder / "model.safetensors") for folder in (checkpoint, kept))
    name = "encoder.layer.0.output.dense.weight"
    assert not np.allclose(before[f"bert.{name}"], after[name], atol=1e-3) and after[name].dtype == np.float16
    train(small_table, tmp_path / "b", labels=["wish=intent"], kind="bert", bert=quick(kept, epochs=1))
    assert "complaint" in load_model(tmp_path / "b").taxonomy.codes("wish")


def test_a_checkpoint_that_is_not_there_is_a_sentence(tmp_path, small_table, checkpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelFormatError, match="give its folder instead"):
        train(small_table, tmp_path / "m", kind="bert", bert=FineTuneConfig(base="nobody/no-such-encoder"))
    empty = tmp_path / "pickled"
    empty.mkdir()
    (empty / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    (empty / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ModelFormatError, match=r"model\.safetensors"):
        train(small_table, tmp_path / "m", kind="bert", bert=FineTuneConfig(base=str(empty)))


def test_a_checkpoint_in_pickle_is_converted_without_running_it(checkpoint, tmp_path):
    import pickle
    import shutil

    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "c"
    shutil.copytree(checkpoint, folder)
    state = load_file(folder / "model.safetensors")
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    convert(folder)
    assert all(torch.equal(state[name], tensor) for name, tensor in load_file(folder / "model.safetensors").items())

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Evil()}, protocol=2))
    with pytest.raises(ModelFormatError, match="tensors alone"):
        convert(folder)
    assert not (tmp_path / "ran").exists()


def test_the_commands_take_an_encoder(checkpoint, small_table, tmp_path):
    runner, folder, kept = CliRunner(), tmp_path / "m", tmp_path / "kept"
    command = ["train", str(small_table[0]), "--model", "bert", "-o", str(folder), "--keep-encoder", str(kept)]
    assert runner.invoke(app, command).exit_code == 2  # no --base
    done = runner.invoke(app, [*command, "--base", str(checkpoint), "--epochs", "1", "--length", "32", "--json"])
    assert done.exit_code == 0, done.stderr
    assert "department" in json.loads(done.stdout)["metrics"] and (kept / "tokenizer.json").exists()
    for command in (
        ["classify", LEAK, "--model", str(folder), "--json"],
        ["info", "--model", str(folder), "--json"],
        ["evaluate", str(small_table[0]), "--model", str(folder), "--json"],
    ):
        done = runner.invoke(app, command)
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)


def test_relabelling_gives_the_same_bytes_on_one_process_and_on_two(blend_folder, small_table, tmp_path):
    for jobs in (1, 2):
        relabel(small_table, tmp_path / f"{jobs}.csv", model=blend_folder, jobs=jobs, chunk_rows=40)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
