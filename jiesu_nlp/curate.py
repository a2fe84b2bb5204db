"""Better labels for the same effort: which to look at again, and which texts to label next."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.neardup import near_duplicate_groups

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


def label_errors(probabilities: FloatArray, target: IntArray) -> IntArray:
    """Rows whose label is probably wrong, the most suspicious first (confident learning).

    A row counts for a class if its probability reaches the mean that the rows labelled so have
    (Northcutt, Jiang and Chuang 2021). It is suspicious where the likeliest class that it counts for is
    not its label.

    Args:
        probabilities: out-of-fold, so that no row was judged by a model that saw its label; shape (n, k).
        target: positions of the labels, shape (n,); -1 where there is none.

    Returns:
        Row numbers, by how far the other class is ahead.
    """
    known = np.flatnonzero(target >= 0)
    p, y = probabilities[known], target[known]
    own = p[np.arange(len(y)), y]
    threshold = np.full(p.shape[1], np.inf)
    for k in np.unique(y):
        threshold[k] = own[y == k].mean()
    counted = np.where(p >= threshold, p, -1.0)
    other = counted.argmax(axis=1)
    suspicious = np.flatnonzero((counted.max(axis=1) > 0) & (other != y))
    ahead = p[suspicious, other[suspicious]] - own[suspicious]
    return known[suspicious[np.argsort(-ahead, kind="stable")]]


def worth_labelling(probabilities: FloatArray, texts: Sequence[str], number: int = 50) -> list[int]:
    """Rows to label next: those the model is least sure of, at most one of a group of near-copies.

    Args:
        probabilities: of the unlabelled texts, shape (n, k).

    Returns:
        At most `number` row numbers, the least sure first.
    """
    best = -np.partition(-probabilities, 1, axis=1)[:, :2]
    groups = near_duplicate_groups(texts)
    chosen: list[int] = []
    taken: set[int] = set()
    for row in np.argsort(best[:, 0] - best[:, 1], kind="stable").tolist():
        if int(groups[row]) not in taken:
            taken.add(int(groups[row]))
            chosen.append(row)
        if len(chosen) == number:
            break
    return chosen
