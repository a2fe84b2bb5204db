"""Figures of merit of probabilities against labels; shapes are (n, k) and (n,)."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


def top_k(probabilities: FloatArray, target: IntArray, k: int) -> float:
    """Share of rows whose label is among the k most probable codes."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((best == target[:, None]).any(axis=1).mean())


def macro_f1(probabilities: FloatArray, target: IntArray) -> float:
    """Unweighted mean F1 over the classes that occur in `target`."""
    predicted = probabilities.argmax(axis=1)
    return float(f1_score(target, predicted, labels=np.unique(target), average="macro", zero_division=0))


def expected_calibration_error(probabilities: FloatArray, target: IntArray, bins: int = 15) -> float:
    """ECE (Guo et al. 2017): mean gap between confidence and accuracy over equal-width bins."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == target
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        (bin_of == b).mean() * abs(correct[bin_of == b].mean() - confidence[bin_of == b].mean())
        for b in range(bins)
        if (bin_of == b).any()
    ]
    return float(sum(gaps))


def coverage_accuracy(probabilities: FloatArray, target: IntArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Accuracy of the most confident share of rows, for each share 1/n … n/n."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    correct = (probabilities.argmax(axis=1) == target)[order]
    n = np.arange(1, len(target) + 1)
    return n / len(target), np.cumsum(correct) / n


def abstain_threshold(probabilities: FloatArray, target: IntArray, accuracy: float) -> float:
    """Lowest confidence above which held-out answers reach `accuracy` (1.0 where they never do)."""
    _, reached = coverage_accuracy(probabilities, target)
    enough = np.flatnonzero(reached >= accuracy)
    if not len(enough):
        return 1.0
    return float(np.sort(-probabilities.max(axis=1))[enough[-1]] * -1)


def assist_threshold(probabilities: FloatArray, assisting: IntArray) -> float:
    """Probability from which a code other than the first names the assisting one, by best F1.

    Args:
        assisting: position of the code that also has to act, -1 where none.
    """
    others = probabilities.copy()
    others[np.arange(len(others)), probabilities.argmax(axis=1)] = 0.0
    named, wanted = np.nonzero(others > 0.02), assisting >= 0
    score = others[named]
    hit = assisting[named[0]] == named[1]
    order = np.argsort(-score, kind="stable")
    f1 = 2 * np.cumsum(hit[order]) / (np.arange(1, len(order) + 1) + wanted.sum())
    return float(score[order][f1.argmax()]) if hit.any() else 1.0


def summarise(probabilities: FloatArray, target: IntArray) -> dict[str, float]:
    """The figures that are kept with a model, rounded to four digits."""
    _, accuracy = coverage_accuracy(probabilities, target)
    figures = {
        "rows": float(len(target)),
        "macro_f1": macro_f1(probabilities, target),
        "top1": top_k(probabilities, target, 1),
        "top3": top_k(probabilities, target, 3),
        "ece": expected_calibration_error(probabilities, target),
        "accuracy_at_70": float(accuracy[max(int(0.7 * len(target)) - 1, 0)]),
    }
    return {name: round(value, 4) for name, value in figures.items()}
