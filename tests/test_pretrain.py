"""Pre-training: the vocabulary, whole-word masks, a run that goes on, and texts of any length."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jiesu_nlp.cli import app
from jiesu_nlp.corpus import Source, blocks, mix, read_source
from jiesu_nlp.curve import learning_curve
from jiesu_nlp.errors import MissingExtraError, TableError, TrainingDataError
from jiesu_nlp.extras import need
from jiesu_nlp.models.batcher import Batcher
from jiesu_nlp.models.wordpiece import Reading, build_tokenizer, readable
from jiesu_nlp.pretrain import PretrainConfig, _Masker, pretrain

TINY = PretrainConfig(
    layers=1, width=32, heads=2, vocabulary=2000, length=32, batch=8, steps=30, rate=1e-2, save_steps=10
)


@pytest.fixture(scope="module")
def corpus(small_tables):
    return [
        Source("t", [json.loads(line)["body"] for path in small_tables for line in path.open(encoding="utf-8")], 1.5)
    ]


ENDINGS = [a + b for a in "一二三四五六七八" for b in "甲乙丙丁戊己庚辛"]


@pytest.mark.parametrize("number", [4, 30])
def test_a_vocabulary_entry_occurs_in_three_texts(number):
    copies = [
        f"我叫张三丰,邮箱 zhangsanfeng,家里的水管漏水已经三个月了,物业一直没有来修,请尽快处理。{end}"
        for end in ENDINGS[:number]
    ]
    tokenizer = build_tokenizer([*copies, "供暖 wifi", "供热 wifi", "供水 wifi"])
    vocabulary = tokenizer.get_vocab()
    assert {"供", "wifi", "[MASK]", "##a", "z"} <= set(vocabulary)
    assert not {"热", "丰", "zhangsanfeng"} & set(vocabulary)
    assert tokenizer.encode("供wifi").tokens == ["[CLS]", "供", "wifi", "[SEP]"]


def test_blocks_know_where_words_begin():
    texts = ["自来水管漏水没人管。", "办居住证要几天?"]
    characters = list("自来水管漏没人。办居住证要几天?")
    tokenizer = build_tokenizer(["".join(np.random.default_rng(i).permutation(characters)) for i in range(3)])
    first, last = (tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]"))
    ids, starts = blocks(texts, tokenizer, 12, first, last)
    assert ids.shape == starts.shape == (1, 12)
    assert ids[0, 0] == first
    tokens = [tokenizer.id_to_token(int(i)) for i in ids[0]]
    words = "".join(("|" if start else "") + token for token, start in zip(tokens, starts[0], strict=True))
    assert words == "|[CLS]|自来水管|漏水|没人管|。|[SEP]"


def test_a_word_is_hidden_as_a_whole():
    import torch

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    ids = rng.integers(5, 90, (64, 128))
    starts = rng.random((64, 128)) < 0.5
    starts[:, 0], ids[:, 0] = True, 2
    batch = _Masker(4, [0, 1, 2, 3, 4], 90, 0.2)(list(np.stack([ids, starts], axis=1).astype(np.int32)))
    hidden = (batch["labels"] != -100).numpy()
    word = starts.cumsum(axis=1)
    for row in range(64):
        for w in np.unique(word[row])[1:]:
            assert len(set(hidden[row, word[row] == w])) == 1
    assert not hidden[:, 0].any() or not (ids[:, 0] == 2).all()
    assert 0.15 < hidden.mean() < 0.25
    shown = batch["input_ids"].numpy()[hidden]
    assert 0.7 < (shown == 4).mean() < 0.9
    assert np.array_equal(batch["input_ids"].numpy()[~hidden], ids[~hidden])


def test_a_run_learns_writes_what_it_did_and_can_be_gone_on_from(corpus, tmp_path):
    messages: list[str] = []

    def stop(message: str) -> None:
        messages.append(message)
        if message.startswith("step 11/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(corpus, tmp_path, config=TINY, progress=stop)
    assert not (tmp_path / "model.safetensors").exists()
    messages.clear()
    report = pretrain(corpus, tmp_path, config=TINY, progress=messages.append)
    assert not any(message.startswith("step 1/") for message in messages)
    losses = [entry["loss"] for entry in report["losses"] if "loss" in entry]
    assert losses[-1] < losses[0]
    assert json.loads((tmp_path / "pretraining.json").read_text(encoding="utf-8")) == report
    assert (tmp_path / "loss.svg").exists()
    assert not (tmp_path / "checkpoints").exists()
    more = pretrain(corpus, tmp_path / "more", base=tmp_path, config=PretrainConfig(length=32, batch=4, steps=2))
    assert more["parameters"] == report["parameters"]
    assert more["losses"][0]["loss"] < losses[0]


def test_a_corpus_that_is_too_small_is_refused(tmp_path):
    with pytest.raises(TrainingDataError, match="too small"):
        pretrain([Source("t", ["供暖"] * 4)], tmp_path, config=TINY)


def test_sources_are_mixed_by_weight():
    train, held = mix([200, 0, 50], [1.5, 3, 2], seed=0)
    times = np.bincount(train, minlength=250)
    assert len(held) == 3 and not times[held].any()
    assert times[:200].sum() == 198 + 99 and times[:200].max() == 2
    assert (np.delete(times[200:], [h - 200 for h in held if h >= 200]) == 2).all()


def test_a_shape_that_cannot_be_is_refused(corpus, tmp_path):
    with pytest.raises(TrainingDataError, match="multiple"):
        pretrain(corpus, tmp_path, config=PretrainConfig(width=100, heads=3))
    with pytest.raises(TrainingDataError, match="at most 512"):
        pretrain(corpus, tmp_path, config=PretrainConfig(layers=1, width=32, heads=2, length=1024))


def test_sources_are_read_with_their_weight(tmp_path):
    (tmp_path / "a.txt").write_bytes("供暖不热\n\n路灯不亮\n".encode("gb18030"))
    (tmp_path / "b.csv").write_text("标题,主要内容\n问,水\n", encoding="utf-8")
    assert read_source(f"{tmp_path}/a.txt*0.5") == Source("a.txt", ["供暖不热", "路灯不亮"], 0.5)
    assert read_source(f"{tmp_path}/b.csv") == Source("b.csv", ["问\n水"], 1.0)
    for bad in ("*x", "*0", "*-1", "*nan"):
        with pytest.raises(TrainingDataError, match="weight"):
            read_source(f"{tmp_path}/a.txt{bad}")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(TableError, match=r"c\.txt"):
        read_source(f"{tmp_path}/c.txt")


def test_the_command_pretrains(corpus, tmp_path):
    file = tmp_path / "c.txt"
    file.write_text("\n".join(corpus[0].texts), encoding="utf-8")
    size = ["--layers", "1", "--width", "32", "--heads", "2", "--length", "32", "--batch", "8", "--steps", "2"]
    done = CliRunner().invoke(app, ["pretrain", f"{file}*2", "-o", str(tmp_path / "e"), *size, "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 2
    done = CliRunner().invoke(app, ["pretrain", f"{file}*2", "-o", str(tmp_path / "e"), *size])
    assert done.exit_code == 0 and "c.txt" in done.stdout
    done = CliRunner().invoke(app, ["pretrain", str(tmp_path / "none.txt"), "-o", str(tmp_path / "e2")])
    assert done.exit_code == 2
    assert "none.txt" in done.stderr


@given(st.integers(0, 3000), st.integers(3, 64), st.floats(0, 1), st.integers(1, 4))
def test_pieces_are_in_order_and_bounded(tokens, length, share, windows):
    pieces = Reading(length, share, windows).pieces(tokens)
    every = np.concatenate(pieces)
    assert 1 <= len(pieces) <= windows
    assert all(len(piece) <= length - 2 for piece in pieces)
    assert (np.diff(every) > 0).all()
    assert len(every) == min(tokens, (length - 2) * windows)
    half_of_one = length == 3 and share == 0.5  # rounds to none
    assert not tokens or windows > 1 or share < 0.5 or half_of_one or every[0] == 0


@given(st.lists(st.integers(1, 70), max_size=30))
def test_a_batcher_keeps_order_and_never_mixes_lengths(lengths):
    shapes = []

    def run(ids):
        shapes.append(ids.shape)
        return [(int(row[0]), len(row)) for row in ids]

    batcher = Batcher(run, threads=2, tokens=64)
    assert batcher.map([[i + 1] * n for i, n in enumerate(lengths)]) == [(i + 1, n) for i, n in enumerate(lengths)]
    batcher.close()
    assert all(n * t <= 64 or n == 1 for n, t in shapes)


def test_a_batcher_hands_an_error_to_who_asked():
    def run(ids):
        raise RuntimeError("broken")

    batcher = Batcher(run, 1)
    for _ in range(2):  # and goes on
        with pytest.raises(RuntimeError, match="broken"):
            batcher.map([[1]])
    batcher.close()


def test_what_is_not_installed_is_named_with_its_command():
    with pytest.raises(
        MissingExtraError, match=r"no_such_module is not installed; run: pip install 'jiesu_nlp\[bert\]'"
    ):
        need("bert", "json", "no_such_module")


def test_a_curve_is_well_formed_whatever_it_is_given():
    from xml.etree import ElementTree

    for entries in ([], [{"step": 1, "loss": 2.0}], [{"step": i, "loss": 9 / (i + 1), "<&>": i} for i in range(5)]):
        ElementTree.fromstring(learning_curve(entries, "step", ("loss", "<&>")))


def test_what_is_shown_of_a_text():
    assert readable(" A3区  1234号\n漏水 ") == "区 0号 漏水"
