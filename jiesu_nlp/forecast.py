"""Which place × category is likely to be complained about next month, so that a street can act first.

A logistic model over the monthly counts of each pair: how often lately and over all, the same month
last year, and how much the category swells in the month ahead. It is fitted on the history's own past
months and, month by month, compared with the seasonal-naive guess: what the same month last year saw.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import HistoryError
from jiesu_nlp.history import History
from jiesu_nlp.history_tables import to_time
from jiesu_nlp.times import as_utc, month_start

if TYPE_CHECKING:
    import polars as pl

FloatArray = NDArray[np.float64]

_LEAST_MONTHS = 6
_FIRST_TARGET = 3
"""Months of past that a training month needs before it."""
_BACKTEST = 6
_MOST_ROWS = 500_000
_NEARLY = timedelta(days=10)
_SCORES = {"month": str, "pairs": int, "share": float} | dict.fromkeys(
    ("auroc", "auroc_naive", "precision", "precision_naive"), float
)
_DECAYS = (1.5, 6.0, 24.0)


@dataclass(frozen=True)
class Forecast:
    """What is likely next month, and how well such forecasts did.

    Attributes:
        table: one row a pair: place, category, probability of at least one ticket in `month`,
            last_month and same_month_last_year (counts), most probable first.
        month: the month forecast, ``2026-02``.
        backtest: one row a past month, fitted only on the months before it: month, pairs, share (of
            pairs that got a ticket), auroc and precision (among as many pairs as got a ticket) of the
            model and of the seasonal-naive guess, ties broken by the count of the last month.
    """

    table: "pl.DataFrame"
    month: str
    backtest: "pl.DataFrame"


@dataclass(frozen=True)
class _Counts:
    """Tickets of each pair in each month: shape (pairs, months), with the first month's number."""

    pairs: list[tuple[str, str]]
    counts: FloatArray
    first: int


def forecast(history: History, at: datetime | None = None, *, backtest: int = _BACKTEST) -> Forecast:
    """Forecast the month that contains `at` from the months before it.

    Args:
        at: ten days after the last ticket by default, so that a month of which little is missing counts as full, and
            one that has just begun is the one to forecast.
        backtest: how many past months to forecast anew, for the figures.

    Raises:
        HistoryError: fewer than six full months of tickets with place and category.
    """
    import polars as pl

    last = at or history.last_time()
    data = _read(history, at or (last + _NEARLY if last else None))
    months = data.counts.shape[1]
    if months < _LEAST_MONTHS:
        raise HistoryError(
            f"the history has {months} full months of tickets with place and category; a forecast needs "
            f"{_LEAST_MONTHS}. Append older tickets, or classify them first"
        )
    probability = _predict(data, months)
    order = np.argsort(-probability, kind="stable")
    year_ago = data.counts[:, months - 12] if months >= 12 else np.zeros(len(data.pairs))
    table = pl.DataFrame(
        {
            "place": [data.pairs[i][0] for i in order],
            "category": [data.pairs[i][1] for i in order],
            "probability": probability[order].round(4),
            "last_month": data.counts[order, -1].astype(int),
            "same_month_last_year": year_ago[order].astype(int),
        }
    )
    past = [_score(data, month) for month in range(max(months - backtest, _LEAST_MONTHS), months)]
    return Forecast(table, _name(data.first + months), pl.DataFrame([row for row in past if row], schema=_SCORES))


def _read(history: History, at: datetime | None) -> _Counts:
    rows = [
        (row.place, row.category, _month(row.time))
        for row in history.tickets(until=month_start(at) if at else None)
        if row.place and row.category
    ]
    if not rows:
        return _Counts([], np.zeros((0, 0)), 0)
    pairs = sorted({(place, category) for place, category, _ in rows})
    index = {pair: i for i, pair in enumerate(pairs)}
    first = min(month for *_, month in rows)
    last = _month(int(as_utc(at).timestamp())) - 1 if at else max(month for *_, month in rows)
    counts = np.zeros((len(pairs), last - first + 1))
    where = [index[place, category] for place, category, _ in rows], [month - first for *_, month in rows]
    np.add.at(counts, where, 1)
    return _Counts(pairs, counts, first)


def _features(data: _Counts, month: int) -> FloatArray:
    """What is known of each pair before a month (its number from the first): shape (pairs, 8)."""
    past = data.counts[:, :month]
    age = month - np.arange(month)
    decayed = [past @ np.exp(-age / life) for life in _DECAYS]
    year_ago = past[:, month - 12] if month >= 12 else np.zeros(len(past))
    any_share = (past > 0).mean(axis=1)
    trend = past[:, -3:].mean(axis=1) - past[:, -6:].mean(axis=1)
    return np.column_stack(
        [
            *(np.log(d + 0.1) for d in decayed),
            np.log1p(year_ago),
            any_share,
            np.log1p(past[:, -1]),
            trend,
            _season(data, month),
        ]
    )


def _season(data: _Counts, month: int) -> FloatArray:
    """Log ratio of a category's tickets in this month of past years to its mean month, by pair."""
    categories = np.array([category for _, category in data.pairs])
    past = data.counts[:, :month]
    same = [m for m in range(month) if (m - month) % 12 == 0]
    out = np.zeros(len(past))
    for category in np.unique(categories):
        total = past[categories == category].sum(axis=0)
        if same:
            out[categories == category] = np.log((total[same].mean() + 1) / (total.mean() + 1))
    return out


def _seen(data: _Counts, month: int) -> NDArray[np.bool_]:
    """Pairs that had a ticket before a month: the others are not known to exist then."""
    return np.asarray(data.counts[:, :month].any(axis=1))


def _predict(data: _Counts, month: int) -> FloatArray:
    """Probability of at least one ticket in a month, from the months before it alone: shape (pairs,)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x: list[FloatArray] = []
    y: list[NDArray[np.bool_]] = []
    for target in range(month - 1, _FIRST_TARGET - 1, -1):  # the newest months first, as many as memory allows
        seen = _seen(data, target)
        if x and sum(map(len, x)) + seen.sum() > _MOST_ROWS:
            break
        x.append(_features(data, target)[seen])
        y.append(data.counts[seen, target] > 0)
    known, answer = np.vstack(x), np.concatenate(y)
    if answer.all() or not answer.any():
        return np.full(len(data.pairs), float(answer.mean()))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(known, answer)
    return np.asarray(model.predict_proba(_features(data, month))[:, 1])


def _score(data: _Counts, month: int) -> dict[str, Any] | None:
    from sklearn.metrics import roc_auc_score

    seen = _seen(data, month)
    truth = data.counts[seen, month] > 0
    if truth.all() or not truth.any():
        return None
    year_ago = data.counts[:, month - 12] if month >= 12 else np.zeros(len(data.pairs))
    naive = (year_ago + 0.001 * np.minimum(data.counts[:, month - 1], 100))[seen]
    model = _predict(data, month)[seen]
    return {
        "month": _name(data.first + month),
        "pairs": int(seen.sum()),
        "share": round(float(truth.mean()), 4),
        "auroc": round(float(roc_auc_score(truth, model)), 4),
        "auroc_naive": round(float(roc_auc_score(truth, naive)), 4),
        "precision": _precision(truth, model),
        "precision_naive": _precision(truth, naive),
    }


def _precision(truth: NDArray[np.bool_], score: FloatArray) -> float:
    best = np.argsort(-score, kind="stable")[: int(truth.sum())]
    return round(float(truth[best].mean()), 4)


def _month(seconds: int) -> int:
    time = to_time(seconds)
    return time.year * 12 + time.month - 1


def _name(month: int) -> str:
    return f"{month // 12}-{month % 12 + 1:02}"
