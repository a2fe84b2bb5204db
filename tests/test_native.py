"""The compiled part gives the answers of the Python it stands for, to the last bit."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from jiesu_nlp import native
from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.features import FeatureConfig, count_features, districts
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.native import binding
from jiesu_nlp.segment import segment_at
from jiesu_nlp.taxonomy import Taxonomy, dictionary_words
from jiesu_nlp.text import normalise

pytestmark = pytest.mark.skipif(not native.loaded(), reason="installed without a C compiler")
SOURCES = ROOT / "jiesu_nlp" / "native"

# Characters in and beside what jieba takes for Chinese, white space of all kinds, folded forms, and others.
EDGES = "\u33ff\u3400\u4dbf\u4e00\u9fd5\u9fd6\u9fff\uac00 \u3000\u2003\x85\x1f\r\n\tＡｚ１09.。!?;,"
EDGES += "\ud800𠮷🙂\x00"
WORDS = st.sampled_from(sorted({*dictionary_words(), *districts(), "市", "区", "县", "a3", "啊", "十一", "的"}))
TEXTS = st.lists(
    WORDS | st.sampled_from(EDGES) | st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), max_size=40
).map("".join)


@settings(deadline=None)
@given(TEXTS)
def test_words_are_those_of_jieba(text):
    assert segment_at(text, "compiled") == segment_at(text, "jieba")


def model(blocks, config):
    blocks = [*map(tuple, blocks), (), ()][:4]
    rng = np.random.default_rng(0)
    n = sum(map(len, blocks))
    idf, scale = rng.uniform(1, 9, n).astype(np.float32), rng.uniform(0.01, 0.1, 5).astype(np.float32)
    weights = rng.integers(-127, 128, (n, 5)).astype(np.int8)
    taxonomy = Taxonomy.from_values({"a": ["x", "y"], "b": ["x", "y", "z"]})
    return TfidfModel(taxonomy, *blocks, idf, weights, scale, scale * 3, config)


@settings(deadline=None)
@given(
    st.lists(TEXTS, min_size=1, max_size=5),
    st.sampled_from([(1, 3, 3, 30), (2, 2, 1, 3), (1, 5, 2, 1), (1, 2, 3, 0)]),
)
def test_features_and_scores_are_those_of_the_definition(texts, shape):
    config = FeatureConfig(*shape)
    counted = [count_features(text, config) for text in texts]
    made = model([sorted({key for blocks in counted for key in blocks[part]})[::2] for part in range(4)], config)
    read = made.vectorise(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "loaded", lambda: None)
        plain = made.vectorise(texts)
        explained = made.explain(plain, "b", ["z"] * len(texts), 3)
    assert made.explain(read, "b", ["z"] * len(texts), 3) == explained
    for name in read._fields:
        assert getattr(read, name).tolist() == getattr(plain, name).tolist(), name
        assert getattr(read, name).dtype == getattr(plain, name).dtype, name


def test_every_character_folds_as_by_definition(monkeypatch):
    every = "".join(map(chr, range(0x110000)))
    folded = normalise(every)
    monkeypatch.setattr(native, "loaded", lambda: None)
    assert folded == normalise(every) and len(folded) == len(every)


def test_a_count_beyond_the_table_of_logarithms():
    made = model([["望"], ["望"]], FeatureConfig())
    read = made.vectorise(["望 " * 9000, ""])
    assert read.begins.tolist() == [0, 2, 2] and np.allclose(read.values * made.idf, 1)
    assert read.scores[1].tolist() == made.bias.tolist()


def test_a_word_that_only_the_cut_lead_has_counts_nothing_where_the_lead_weighs_one():
    text = "甲," * 29 + ",中华人民共和国"
    made = model([["中", "甲", "中华人民共和国"], ["甲"]], FeatureConfig(1, 3, 1))
    assert made.vectorise([text]).entries.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "shape",
    [
        (5, 3, 3, 30),
        (0, 3, 3, 30),
        (1, 3, 0, 30),
        (1, 3.0, 3, 30),
        (1, 99, 3, 30),
        (1, 3, 3, -1),
        (1, 3, 3, 9999),
        (1, 3, 3, None),
        (1, 3, 3, True),
    ],
)
def test_features_that_cannot_be_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match="lengths"):
        FeatureConfig(*shape)
    made = model([["中"], ["中"]], FeatureConfig())
    made.save(str(tmp_path))
    meta = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    meta["features"] = dict(zip(("char_min", "char_max", "lead_weight", "edge"), shape, strict=True))
    (tmp_path / "model.json").write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(ModelFormatError):
        TfidfModel.load(str(tmp_path))


@pytest.mark.parametrize("change", [{"features": {}}, {"idf": 0.0}, {"idf": 1e38}])
def test_a_model_without_its_shape_or_with_no_weighing_idf_is_refused(change, tmp_path):
    made = model([["中"], ["中"]], FeatureConfig())
    if "idf" in change:
        made = replace(made, idf=np.full_like(made.idf, change.pop("idf")), scale=np.full_like(made.scale, 9))
    made.save(str(tmp_path))
    meta = json.loads((tmp_path / "model.json").read_text(encoding="utf-8")) | change
    (tmp_path / "model.json").write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(ModelFormatError, match=r"malformed|none that a text"):
        TfidfModel.load(str(tmp_path))


def test_whole_answers_are_the_same_without_it(data_folder):
    answer = (
        "import json, sys; from jiesu_nlp import classify, native\n"
        "texts = json.load(sys.stdin)\n"
        "print(bool(native.loaded()), json.dumps([a.to_dict() for a in classify(texts)]))"
    )
    with (data_folder / "messages.jsonl").open(encoding="utf-8") as file:
        texts = json.dumps([json.loads(line)["body"] for line, _ in zip(file, range(300), strict=False)])
    answers = {}
    for compiled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", answer],
            input=texts,
            env=os.environ | {"JIESU_COMPILED": compiled},
            capture_output=True,
            text=True,
            check=True,
        )
        was, _, answers[compiled] = done.stdout.partition(" ")
        assert was == str(compiled == "1")
    assert answers["0"] == answers["1"]


def test_many_openings_in_one_text_are_all_found():
    openings = native.Openings({"a": [0], "aa": [1]}, {"b": [1]}, [0, 500], [0, 1])
    text = "a" * 400 + "b"
    assert Counter(number for _, number in openings.find(text)) == {0: 400, 1: 399}
    places = [at for at, _ in openings.find(text)]
    assert places == sorted(places)


@pytest.fixture
def sources(tmp_path):
    for path in SOURCES.glob("*.[ch]"):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_the_library_is_built_by_a_c_compiler_alone(sources):
    hatch_build = pytest.importorskip("hatch_build", reason="the repository is not at hand")
    assert hatch_build.compile_library(sources) is None
    assert (sources / hatch_build.LIBRARY).exists()


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler-here"])
def test_without_a_compiler_it_says_so_and_goes_on(sources, monkeypatch, compiler):
    import hatch_build

    monkeypatch.setenv("CC", compiler)
    assert hatch_build.compile_library(sources)
    assert not (sources / hatch_build.LIBRARY).exists()


def test_a_damaged_library_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "libjiesu.so").write_bytes(b"not a library")
    monkeypatch.setattr(binding, "__file__", str(tmp_path / "binding.py"))
    assert binding.loaded.__wrapped__() is None


def test_a_library_from_other_sources_is_left_alone(sources, monkeypatch):
    import hatch_build

    header = (sources / "native.h").read_text()
    (sources / "native.h").write_text(header.replace(f"#define VERSION {binding.VERSION}", "#define VERSION 999"))
    assert hatch_build.compile_library(sources) is None
    monkeypatch.setattr(binding, "__file__", str(sources / "binding.py"))
    assert binding.loaded.__wrapped__() is None
