"""What fitting leaves in a TF-IDF model: blocks of their lengths, and the features that say most."""

import json

import numpy as np
import pytest
from conftest import SAMPLES
from scipy import sparse
from scipy.sparse import linalg

from jiesu_nlp.features import BLOCK_SHARES, FeatureConfig
from jiesu_nlp.metrics import expected_calibration_error
from jiesu_nlp.models.fit_tfidf import FitConfig, _vectorise, fit
from jiesu_nlp.taxonomy import Taxonomy

KEPT = 500
TARGET = np.repeat([0, 1], 30)


@pytest.fixture(scope="module")
def texts():
    lines = (SAMPLES / f"{name}.jsonl" for name in ("water", "metro"))
    return [json.loads(line)["body"] for file in lines for line in file.read_text(encoding="utf-8").splitlines()[:30]]


@pytest.fixture(scope="module")
def fits(texts):
    """Models and probabilities out-of-fold: of all features, and of the few that say most."""
    taxonomy, groups = Taxonomy.from_values({"label": ["水", "车"]}), np.arange(len(texts))
    return [fit(texts, {"label": TARGET}, taxonomy, groups, config=FitConfig(max_features=n)) for n in (10**6, KEPT)]


@pytest.fixture(scope="module")
def models(fits):
    return [model for model, _ in fits]


def _idf(model):
    """The idf of each entry, by its block and itself."""
    return dict(zip([(b, entry) for b, block in enumerate(model._blocks) for entry in block], model.idf, strict=True))


def test_few_rows_do_not_make_it_shy(fits):
    assert expected_calibration_error(fits[0][1]["label"], TARGET) < 0.1


def test_a_model_reads_what_it_was_fitted_on(texts, models):
    matrix, entries, _ = _vectorise(texts, np.arange(len(texts)), FeatureConfig())
    read = models[0].vectorise(texts)
    values = read.values * models[0].idf[read.entries]
    same = sparse.csr_matrix((values, read.entries, read.begins), shape=matrix.shape)
    assert abs(same - matrix).max() < 1e-6
    parts = np.split(np.arange(matrix.shape[1]), np.cumsum([len(block) for block in entries])[:-1])
    for part, share in zip(parts, BLOCK_SHARES, strict=True):
        assert np.allclose(linalg.norm(matrix[:, part], axis=1), share, atol=1e-5)
    assert np.isclose(BLOCK_SHARES[2] ** 2 + BLOCK_SHARES[3] ** 2, 1)


def test_the_features_that_say_most_are_kept_with_their_own_idf(texts, models):
    whole, few = models
    assert len(few.idf) == KEPT and _idf(few).items() <= _idf(whole).items()
    read = whole.vectorise(texts)
    values = np.bincount(read.entries, read.values * whole.idf[read.entries], len(whole.idf))
    said = np.abs(whole.weights * whole.scale).max(axis=1) * values
    order = np.argsort(-said)
    names = list(_idf(whole))
    # Weights are known to a 127th of the largest: near the border either may be kept.
    assert {names[i] for i in order[: KEPT - 100]} <= set(_idf(few)) <= {names[i] for i in order[: KEPT + 100]}
