import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jiesu_nlp.curate import label_errors, worth_labelling
from jiesu_nlp.model_card import model_card
from jiesu_nlp.models.store import model_folder
from jiesu_nlp.models.tfidf import TfidfModel


def test_a_label_far_from_its_class_is_suspicious():
    p = np.array([[0.9, 0.1]] * 5 + [[0.2, 0.8]] * 5, np.float32)
    target = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    assert set(label_errors(p, target).tolist()) == {4, 9}
    assert len(label_errors(p, np.full(10, -1))) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(-1, 2)), max_size=20))
def test_only_labelled_rows_are_suspicious(rows):
    p = np.array([[a, (1 - a) / 2, (1 - a) / 2] for a, _ in rows], np.float32).reshape(-1, 3)
    target = np.array([t for _, t in rows], np.int64)
    assert all(target[i] >= 0 for i in label_errors(p, target))


def test_the_least_sure_come_first_and_copies_once():
    p = np.array([[0.9, 0.1], [0.5, 0.5], [0.51, 0.49], [0.6, 0.4]], np.float32)
    texts = ["小区停水三天了没人管", "公司拖欠工资半年了不发", "公司拖欠工资半年了不发", "路口红绿灯坏了很久"]
    assert worth_labelling(p, texts, 3) == [1, 3, 0]


def test_the_packaged_model_has_its_card():
    model = TfidfModel.load(str(model_folder()))
    kept = (model_folder() / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert kept == model_card(model.meta, model.taxonomy.to_dict()) and "| department |" in kept
