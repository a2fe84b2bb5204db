"""未诉先办: could the matter have been handled before this complaint? Three parts, each visible.

The text: the levels' probabilities of the model, together with the cues found, through one small
logistic model that `train` fits on out-of-fold probabilities. The history: past tickets on the same
matter and whether an answered one came back. The class: how often its category and department come
back to a place. The last two shift the odds of levels 1 and 2 by weights fitted on tickets in time
order (``recurrence_weights.csv``), never below zero: what the past shows cannot lower a score.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.cues import RECURRENCE_KINDS, Cue, find_cues
from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.base import softmax
from jiesu_nlp.taxonomy import packaged_table
from jiesu_nlp.times import as_utc

if TYPE_CHECKING:  # a history is optional, and its database library is slow to import
    from jiesu_nlp.history import History
    from jiesu_nlp.history_tables import PastTicket
    from jiesu_nlp.matter import Matter

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
LEVELS = ("0", "1", "2")
WINDOW = timedelta(days=365)
HORIZON_DAYS = 30
DECAYS = (3, 10, 45, 180, 1500)
"""Mean lives in days over which past tickets of a place are counted. A weight for each was no better on
later years than one for their sum (``benchmarks/fit_recurrence.py``)."""

_FLOOR = 1e-6
_PLACES = 3


@dataclass(frozen=True, slots=True)
class Past:
    """What a history says of a ticket, known before the ticket's own time.

    Attributes:
        tickets: past tickets on the same matter within `WINDOW`, most similar first.
        month_count, year_count: of them in the calendar month and year of the ticket, itself included.
        came_back: one of them had been answered, and the matter is here again.
        class_rate: how often the ticket's category and department come back to a place, 0..1.
        again: probability of another ticket about its place within 30 days; ``None`` with no place.
    """

    tickets: "tuple[PastTicket, ...]"
    month_count: int
    year_count: int
    came_back: bool
    class_rate: float
    again: float | None


def fit_text(
    p: FloatArray, texts: Sequence[str], target: IntArray, weight: FloatArray, groups: IntArray
) -> tuple[dict[str, Any] | None, FloatArray]:
    """Fit the text part on out-of-fold probabilities of the levels, shape (n, 3).

    Returns:
        JSON-ready parameters, and cross-fitted probabilities, shape (n, 3), for honest figures;
        ``None`` and `p` where a fold lacks a level, for then there is too little to learn from.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    features = _text_features(p, texts)
    known = np.flatnonzero(target >= 0)

    def fit(rows: IntArray) -> dict[str, Any]:
        model = LogisticRegression(max_iter=2000).fit(features[rows], target[rows], sample_weight=weight[rows])
        return {"coef": np.round(model.coef_, 5).tolist(), "intercept": np.round(model.intercept_, 5).tolist()}

    splitter = GroupKFold(min(5, len(np.unique(groups))), shuffle=True, random_state=0)
    folds = list(splitter.split(features, groups=groups))
    if any(len(np.unique(target[np.intersect1d(train, known)])) < len(LEVELS) for train, _ in folds):
        return None, p
    crossed = np.zeros_like(p)
    for train, test in folds:
        crossed[test] = _apply(features[test], fit(np.intersect1d(train, known)))
    return fit(known), crossed


def read_parameters(parameters: Any) -> dict[str, FloatArray] | None:
    """What a model brings for the text part, as arrays; ``None`` if it brings nothing.

    Raises:
        ModelFormatError: not the coefficients and intercepts of three levels, or not finite.
    """
    if parameters is None:
        return None
    try:
        read = {name: np.array(parameters[name], np.float32) for name in ("coef", "intercept")}
        good = read["coef"].shape == (3, 4 + len(RECURRENCE_KINDS)) and read["intercept"].shape == (3,)
        good = good and all(bool(np.isfinite(values).all()) for values in read.values())
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise ModelFormatError("model.json: the recurrence parameters are damaged; train the model again")
    return read


def text_levels(
    p: FloatArray,
    texts: Sequence[str],
    parameters: Mapping[str, Any] | None,
    cues: Sequence[Sequence[Cue]] | None = None,
) -> FloatArray:
    """Probabilities of the levels after the cues were heard, shape (n, 3).

    Args:
        p: the model's, shape (n, 3); returned as they are by a model without `parameters`.
        cues: those of each text, where the caller has found them already.
    """
    return _apply(_text_features(p, texts, cues), parameters) if parameters else p


def _text_features(p: FloatArray, texts: Sequence[str], cues: Sequence[Sequence[Cue]] | None = None) -> FloatArray:
    """Log probabilities of the levels, log counts of the cues of each kind, log length: shape (n, 10)."""
    rows = []
    for text, found in zip(texts, cues or map(find_cues, texts), strict=True):
        kinds = [cue.kind for cue in found]
        rows.append([*(math.log1p(kinds.count(kind)) for kind in RECURRENCE_KINDS), math.log(len(text) + 1)])
    heard = np.array(rows, np.float32).reshape(len(texts), len(RECURRENCE_KINDS) + 1)
    return np.concatenate([np.log(p + _FLOOR), heard], axis=1, dtype=np.float32)


def _apply(features: FloatArray, parameters: Mapping[str, Any]) -> FloatArray:
    # Row by row in a fixed order, so that an answer does not depend on its batch.
    coef, intercept = (np.asarray(parameters[name], np.float32) for name in ("coef", "intercept"))
    return softmax((features[:, None, :] * coef).sum(axis=2) + intercept)


def look_back(
    history: "History", matter: "Matter", at: datetime, category: str | None = None, department: str | None = None
) -> Past:
    """What a history says of a matter that comes in at a time."""
    at = as_utc(at)
    found = tuple(history.similar(matter, before=at, window=WINDOW, top=None))
    this_year = [ticket.time for ticket in found if ticket.time.year == at.year]
    return Past(
        found,
        1 + sum(time.month == at.month for time in this_year),
        1 + len(this_year),
        any(ticket.answered is not None for ticket in found),
        history.class_rate(category, department, at),
        max((again(history, place, at) for place in matter.places[:_PLACES]), default=None),
    )


def with_past(levels: FloatArray, past: Past) -> FloatArray:
    """Probabilities of the levels, shape (3,), after the history and the class were heard."""
    shift = float(past_features(past) @ np.array([_weights("history")[name] for name in PAST_FEATURES]))
    if not shift:
        return levels
    odds = levels * np.array([1.0, math.exp(shift), math.exp(shift)])
    return np.asarray(odds / odds.sum(), np.float32)


PAST_FEATURES = ("log_same", "came_back", "class_rate")


def past_features(past: Past) -> NDArray[np.float64]:
    """Log count of past tickets, whether one came back, the class's rate above a half: shape (3,)."""
    return np.array([math.log1p(len(past.tickets)), float(past.came_back), max(past.class_rate - 0.5, 0.0)])


def again(history: "History", place: str, at: datetime) -> float:
    """Probability of another ticket about a place within 30 days after `at`, from its own past."""
    weights = _weights("again")
    ages = (as_utc(at).timestamp() - history.place_times(place, at)) / 86400
    return 1 / (1 + math.exp(-weights["intercept"] - weights["activity"] * activity(ages)))


def activity(ages: NDArray[np.float64]) -> float:
    """How active a place is: the sum of the logs of its decayed counts, lately and over all.

    Args:
        ages: of its past tickets, in days. Each counts exp(-age / mean life), for each of `DECAYS`.
    """
    return sum(math.log(np.exp(-ages / mean_life).sum() + 0.1) for mean_life in DECAYS)


@cache
def _weights(part: str) -> dict[str, float]:
    rows = packaged_table("recurrence_weights", "part", "feature", "weight")
    return {row["feature"]: float(row["weight"]) for row in rows if row["part"] == part}
