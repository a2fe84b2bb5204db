"""Fitting a `TfidfModel`: margins of linear support vector machines, then one calibrator a head.

The calibrator is a multinomial logistic regression on the margins of *all* heads, fitted on
margins of texts that the machines behind them have not seen (k-fold, near-copies together). It
turns margins into probabilities and lets a head lean on what the other heads see. Both steps are
linear, so they are folded into one weight matrix, pruned and stored as int8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from jiesu_nlp.errors import TrainingDataError
from jiesu_nlp.features import BLOCK_SHARES, FeatureConfig, count_features
from jiesu_nlp.models.base import FloatArray, IntArray, softmax
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.taxonomy import Taxonomy

MIN_TICKETS = 3
"""A vocabulary entry must occur in this many different tickets, so that none gives one away."""
_FEW = 6
"""Classes of a head up to which they are ways of asking, mixed in their words, rather than topics."""
_MANY = 2000
"""Rows below which a calibrator is held less tightly: its penalty stands against a sum over the rows."""
_ABSENT_MARGIN = -2.0
_OTHER_HEADS = 0.3
_SMOOTHING = 0.1


@dataclass(frozen=True)
class FitConfig:
    """Settings of a fit.

    Attributes:
        c: inverse regularisation of the machines. c_calibrator: of the calibrators.
        c_few, c_calibrator_few: the same for heads of at most six classes, such as intent and recurrence.
        folds: number of folds for the margins that the calibrators are fitted on.
        max_features: features kept, those whose largest weight times the sum of their values is largest.
    """

    c: float = 0.5
    c_few: float = 0.1
    c_calibrator: float = 0.5
    c_calibrator_few: float = 1.0
    folds: int = 5
    max_features: int = 120_000
    seed: int = 0


def fit(
    texts: Sequence[str],
    targets: Mapping[str, IntArray],
    taxonomy: Taxonomy,
    groups: IntArray,
    weights: FloatArray | None = None,
    features: FeatureConfig = FeatureConfig(),
    config: FitConfig = FitConfig(),
    jobs: int = 1,
) -> tuple[TfidfModel, dict[str, FloatArray]]:
    """Fit a model; return it with out-of-fold probabilities, ``{head: (n, k)}``, for honest metrics.

    Args:
        targets: ``{head: (n,)}`` positions of the codes, -1 where a label is missing.
        groups: near-copy groups, shape (n,); a group never straddles a fold.
        weights: weight of each text, shape (n,); 1 by default.

    Raises:
        TrainingDataError: no word occurs in three different tickets.
    """
    weight = np.ones(len(texts), np.float32) if weights is None else weights
    matrix, entries, idf = _vectorise(texts, groups, features)
    if not matrix.shape[1]:
        raise TrainingDataError(f"no word occurs in {MIN_TICKETS} different tickets; add more, and different, rows")
    heads = list(taxonomy.heads)
    folds = _folds(groups, config)
    with threadpool_limits(1):
        parts = Parallel(n_jobs=jobs)(
            delayed(_margins)(matrix, train, matrix[test], targets, taxonomy, weight, config) for train, test in folds
        )
        margins = np.zeros((len(texts), parts[0].shape[1]), np.float32)
        for (_, test), part in zip(folds, parts, strict=True):
            margins[test] = part
        out_of_fold = {h: _cross_calibrate(margins, h, targets, taxonomy, weight, groups, config) for h in heads}
        machine, intercept = _machines(matrix, np.arange(len(texts)), targets, taxonomy, weight, config, jobs)
        folded = [_calibrator(margins, h, targets[h], taxonomy, weight, config) for h in heads]
    mix = np.hstack([m for m, _ in folded])
    bias = intercept @ mix + np.concatenate([b for _, b in folded])
    full = (machine @ mix).astype(np.float32)
    # How much a feature says in all the texts together: by its weight alone, rare n-grams displace what decides.
    said = np.abs(full).max(axis=1) * np.asarray(matrix.sum(axis=0)).ravel()
    keep = np.sort(np.argsort(-said, kind="stable")[: config.max_features])
    quantised, scale = _quantise(full[keep])
    names = np.array([entry for block in entries for entry in block], object)
    blocks = np.split(keep, np.searchsorted(keep, np.cumsum([len(block) for block in entries])[:-1]))
    words, chars, first, last = (tuple(names[block]) for block in blocks)
    model = TfidfModel(
        taxonomy,
        words,
        chars,
        first,
        last,
        idf[keep],
        quantised,
        scale,
        bias.astype(np.float32),
        features,
    )
    return model, out_of_fold


def _vectorise(
    texts: Sequence[str], groups: IntArray, features: FeatureConfig
) -> tuple[sparse.csr_matrix, list[list[str]], FloatArray]:
    """TF-IDF blocks of the lengths `BLOCK_SHARES` side by side, their vocabularies, and all idf values.

    The vocabulary is counted on one text a near-copy group: copies are not different tickets.
    """
    counted = [count_features(text, features) for text in texts]
    one_each = np.unique(groups, return_index=True)[1]
    blocks: list[Any] = []
    entries: list[list[str]] = []
    idfs: list[Any] = []
    for part, share in enumerate(BLOCK_SHARES):
        vectoriser = CountVectorizer(analyzer=lambda counts: counts, min_df=MIN_TICKETS, dtype=np.float32)
        try:
            vectoriser.fit(counted[i][part] for i in one_each)
        except ValueError:  # too few texts for any entry: an empty block
            blocks.append(sparse.csr_matrix(np.zeros((len(texts), 0), np.float32)))
            entries.append([])
            idfs.append(np.zeros(0))
            continue
        index = vectoriser.vocabulary_
        rows = [
            ([index[k] for k in counts[part] if k in index], [float(n) for k, n in counts[part].items() if k in index])
            for counts in counted
        ]
        indptr = np.cumsum([0] + [len(ids) for ids, _ in rows])
        block = sparse.csr_matrix(
            (
                np.array([n for _, ns in rows for n in ns], np.float32),
                np.array([i for ids, _ in rows for i in ids], np.int32),
                indptr,
            ),
            shape=(len(texts), len(index)),
        )
        block.sort_indices()
        transformer = TfidfTransformer(sublinear_tf=True)
        blocks.append(share * transformer.fit_transform(block))
        entries.append([str(entry) for entry in vectoriser.get_feature_names_out()])
        idfs.append(transformer.idf_)
    return sparse.hstack(blocks, "csr", np.float32), entries, np.concatenate(idfs).astype(np.float32)


def _folds(groups: IntArray, config: FitConfig) -> list[tuple[IntArray, IntArray]]:
    number = min(config.folds, len(np.unique(groups)))
    splitter = GroupKFold(number, shuffle=True, random_state=config.seed)
    return list(splitter.split(groups, groups=groups))


def _machines(
    matrix: sparse.csr_matrix,
    rows: IntArray,
    targets: Mapping[str, IntArray],
    taxonomy: Taxonomy,
    weight: FloatArray,
    config: FitConfig,
    jobs: int = 1,
) -> tuple[FloatArray, FloatArray]:
    """One-vs-rest machines of every head: weights (features, columns) and intercepts (columns,)."""
    parts = Parallel(n_jobs=jobs)(
        delayed(_machine)(matrix, rows, targets[head], len(taxonomy.codes(head)), weight, config)
        for head in taxonomy.heads
    )
    return np.hstack([w for w, _ in parts]), np.concatenate([b for _, b in parts])


def _machine(
    matrix: sparse.csr_matrix, rows: IntArray, target: IntArray, k: int, weight: FloatArray, config: FitConfig
) -> tuple[FloatArray, FloatArray]:
    known = rows[target[rows] >= 0]
    w, b = np.zeros((matrix.shape[1], k), np.float32), np.full(k, _ABSENT_MARGIN, np.float32)
    classes = np.unique(target[known])
    if len(classes) < 2:
        b[classes] = -_ABSENT_MARGIN
        return w, b
    c = config.c if k > _FEW else config.c_few
    x, y, weights = matrix[known], target[known], weight[known]
    for label in classes if len(classes) > 2 else classes[1:]:
        is_label = (y == label).astype(np.int64)
        ratio = _log_count_ratio(x, is_label, weights)
        plain = LinearSVC(C=c, random_state=config.seed).fit(x, is_label, sample_weight=weights)
        bayes = LinearSVC(C=c, random_state=config.seed).fit(x @ sparse.diags(ratio), is_label, sample_weight=weights)
        w[:, label] = (plain.coef_[0] + bayes.coef_[0] * ratio) / 2
        b[label] = (plain.intercept_[0] + bayes.intercept_[0]) / 2
    if len(classes) == 2:
        w[:, classes[0]], b[classes[0]] = -w[:, classes[1]], -b[classes[1]]
    return w, b


def _log_count_ratio(x: sparse.csr_matrix, is_label: IntArray, weight: FloatArray) -> FloatArray:
    """How much each feature says of a class, shape (features,), mean 1: half of it is uniform.

    The naive Bayes log-count ratio of Wang and Manning (2012), interpolated as they advise.
    """
    inside, outside = (_SMOOTHING + x.T @ (weight * (is_label == side)) for side in (1, 0))
    ratio = np.abs(np.log(inside / inside.sum()) - np.log(outside / outside.sum()))
    return np.asarray((1 + ratio / ratio.mean()) / 2, np.float32)


def _margins(
    matrix: sparse.csr_matrix,
    train: IntArray,
    test: sparse.csr_matrix,
    targets: Mapping[str, IntArray],
    taxonomy: Taxonomy,
    weight: FloatArray,
    config: FitConfig,
) -> FloatArray:
    w, b = _machines(matrix, train, targets, taxonomy, weight, config)
    return np.asarray(test @ w + b, dtype=np.float32)


def _calibrator(
    margins: FloatArray, head: str, target: IntArray, taxonomy: Taxonomy, weight: FloatArray, config: FitConfig
) -> tuple[FloatArray, FloatArray]:
    """Weights (all columns, k) and bias (k,) of a head's calibrator."""
    k = len(taxonomy.codes(head))
    # The other heads' margins come in scaled down, that is, more strongly regularised.
    scale = np.concatenate([np.full(len(v), 1.0 if h == head else _OTHER_HEADS) for h, v in taxonomy.heads.items()])
    known = target >= 0
    classes = np.unique(target[known])
    w, b = np.zeros((margins.shape[1], k)), np.full(k, -12.0)
    if len(classes) < 2:
        b[classes] = 0.0
        return w.astype(np.float32), b.astype(np.float32)
    c = (config.c_calibrator if k > _FEW else config.c_calibrator_few) * max(1.0, _MANY / known.sum())
    logistic = LogisticRegression(C=c, max_iter=2000)
    logistic.fit(margins[known] * scale, target[known], sample_weight=weight[known])
    coef, intercept = logistic.coef_, logistic.intercept_
    if len(classes) == 2:
        coef, intercept = np.vstack([-coef[0] / 2, coef[0] / 2]), np.array([-intercept[0] / 2, intercept[0] / 2])
    w[:, classes], b[classes] = (coef * scale).T, intercept
    return w.astype(np.float32), b.astype(np.float32)


def _cross_calibrate(
    margins: FloatArray,
    head: str,
    targets: Mapping[str, IntArray],
    taxonomy: Taxonomy,
    weight: FloatArray,
    groups: IntArray,
    config: FitConfig,
) -> FloatArray:
    out = np.zeros((len(margins), len(taxonomy.codes(head))), np.float32)
    for train, test in _folds(groups, config):
        w, b = _calibrator(margins[train], head, targets[head][train], taxonomy, weight[train], config)
        out[test] = softmax(margins[test] @ w + b)
    return out


def _quantise(weights: FloatArray) -> tuple[NDArray[np.int8], FloatArray]:
    """Int8 weights and a float scale a column; the largest weight of a column becomes ±127."""
    scale = np.maximum(np.abs(weights).max(axis=0, initial=0.0), 1e-12) / 127
    return np.round(weights / scale).astype(np.int8), scale.astype(np.float32)
