"""From one complaint to a class of complaints: groups of tickets on the same matter, hottest first."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from jiesu_nlp.errors import HistoryError
from jiesu_nlp.history import History
from jiesu_nlp.history_tables import stored_matters
from jiesu_nlp.matter import SAME_SUBJECT, features_of_place, is_common, read_matter
from jiesu_nlp.times import as_utc

if TYPE_CHECKING:
    import polars as pl

JOINED = 0.18
"""Mean similarity at which two groups are still one matter; a little below `matter.SAME_MATTER`,
because a mean over pairs is steadier than one pair. Chosen on four readings of 90 messages."""

HALF_LIFE_DAYS = 30.0
_BLOCK = 512
_LARGEST = 4000
"""Largest component that is clustered as a whole; a larger one is cut by a higher similarity first."""
_TITLE_WORDS = 3
_TITLE_TEXTS = 20

IntArray = NDArray[np.int64]
_Parts = tuple[sparse.csr_matrix, sparse.csr_matrix]
_of_place = lru_cache(10_000)(features_of_place)


@dataclass(frozen=True)
class _Row:
    """What is kept of a ticket while grouping."""

    id: str
    day: float
    place: str | None
    category: str | None
    text: str


def hotspots(
    history: History,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    half_life: float = HALF_LIFE_DAYS,
    smallest: int = 2,
) -> "pl.DataFrame":
    """Groups of tickets on the same matter in a window, ranked by heat.

    Heat is the sum over a group's tickets of 0.5 ^ (age / half-life), age being counted from the end
    of the window, times the square root of the share of different days among its tickets: a matter
    that many days bring up is hotter than one letter sent ten times in an hour.

    Args:
        half_life: days after which a ticket counts half. smallest: least number of tickets of a group, 2 or
            more.

    Raises:
        HistoryError: a half-life that is not above 0.

    Returns:
        One row a group: rank, heat, tickets, title, place, category, first, last, representative (the
        id of the ticket most like the others), ids.
    """
    import polars as pl

    if half_life <= 0:
        raise HistoryError(f"the half-life must be more than 0 days, not {half_life:g}")
    rows, matrix, subject = _read(history, since, until)
    if not rows:
        return pl.DataFrame(schema=_schema())
    end = as_utc(until).timestamp() / 86400 if until else max(row.day for row in rows)
    found = []
    for members in group(matrix, subject):
        if len(members) >= smallest:
            found.append(_describe([rows[i] for i in members], matrix[members], end, half_life))
    found.sort(key=lambda row: (-row["heat"], row["representative"]))
    return pl.DataFrame([{"rank": i} | row for i, row in enumerate(found, 1)], schema=_schema())


def group(matrix: sparse.csr_matrix, subject: sparse.csr_matrix, joined: float = JOINED) -> list[IntArray]:
    """Rows of unit vectors grouped by average linkage; groups of one are left out.

    Args:
        matrix: shape (n, features). subject: the same without what the place's name brought; rows that share
            too little of it are not alike. joined: mean similarity at which two groups are one.
    """
    copies: dict[bytes, list[int]] = {}
    for row, (begin, end) in enumerate(pairwise(matrix.indptr)):
        content = matrix.indices[begin:end].tobytes() + matrix.data[begin:end].tobytes()
        copies.setdefault(content, []).append(row)
    rows_of = {rows[0]: rows for rows in copies.values()}  # a letter sent a thousand times is compared once
    found = _split((matrix, subject), np.array([*rows_of], np.int64), joined, joined)
    groups = [[rows_of.pop(row) for row in members.tolist()] for members in found]
    groups += [[rows] for rows in rows_of.values() if len(rows) > 1]
    return [np.sort(np.concatenate(several)) for several in groups]


def _split(parts: _Parts, rows: IntArray, edge: float, joined: float) -> Any:
    for chosen in _connected(_chosen(parts, rows), edge):
        if len(chosen) > _LARGEST and edge + 0.04 >= 1:  # copies of one text
            yield rows[chosen]
        elif len(chosen) > _LARGEST:
            yield from _split(parts, rows[chosen], edge + 0.04, joined)
        elif len(chosen) > 1:
            yield from (rows[chosen[sub]] for sub in _average_linkage(_chosen(parts, rows[chosen]), joined))


def _chosen(parts: _Parts, rows: IntArray) -> _Parts:
    return parts[0][rows], parts[1][rows]


def _connected(parts: _Parts, edge: float) -> list[IntArray]:
    """Rows that a chain of similar ones connects. The pairs of a block are used at once: all would not fit."""
    n = parts[0].shape[0]
    label = np.arange(n)
    for start in range(0, n, _BLOCK):
        close = _similarity(parts, slice(start, start + _BLOCK)).tocoo()
        keep = (close.data >= edge) & (close.row + start < close.col)
        pairs = label[close.row[keep] + start], label[close.col[keep]]
        graph = sparse.coo_matrix((np.ones(len(pairs[0]), np.int8), pairs), shape=(n, n))
        label = connected_components(graph, directed=False)[1].astype(np.int64)[label]
    order = np.argsort(label, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(label[order])) + 1)


def _similarity(parts: _Parts, some: slice) -> sparse.csr_matrix:
    """Similarity of some rows to all, without those of another subject."""
    alike, subject = (part[some] @ part.T for part in parts)
    subject.data = (subject.data >= SAME_SUBJECT).astype(np.float32)
    return alike.multiply(subject).tocsr()


def _average_linkage(parts: _Parts, joined: float) -> list[IntArray]:
    distance = 1 - np.clip(_similarity(parts, slice(None)).toarray(), 0, 1)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform((distance + distance.T) / 2, checks=False), "average")
    label = fcluster(tree, 1 - joined, "distance")
    return [chosen for k in np.unique(label) if len(chosen := np.flatnonzero(label == k)) > 1]


def _read(history: History, since: datetime | None, until: datetime | None) -> tuple[list[_Row], *_Parts]:
    """Tickets of a window, their matters, and these without what the place's name brought."""
    rows: list[_Row] = []
    features, weights = [], []
    for row in history.tickets(since, until):
        rows.append(_Row(row.id, row.time / 86400, row.place, row.category, row.text))
        features.append(row.features)
        weights.append(row.weights)
    if not rows:
        empty = sparse.csr_matrix(np.zeros((0, 0), np.float32))
        return [], empty, empty
    all_features, data, lengths = stored_matters(features, weights)
    known, column = np.unique(all_features, return_inverse=True)
    begins = np.cumsum([0, *lengths])
    matrix = sparse.csr_matrix((data, column, begins), shape=(len(rows), len(known)))
    subject = matrix.copy()
    for row, (begin, end) in zip(rows, pairwise(begins.tolist()), strict=True):
        if row.place:
            subject.data[begin:end][np.isin(all_features[begin:end], _of_place(row.place))] = 0
    # Of one place and one category, tickets are taken for one matter whatever their words.
    codes, column = np.unique([row.category or "" for row in rows], return_inverse=True)
    enough = np.array([math.sqrt(SAME_SUBJECT) * 1.01 if row.category else 0.0 for row in rows], np.float32)
    same_class = sparse.csr_matrix((enough, column, np.arange(len(rows) + 1)), shape=(len(rows), len(codes)))
    return rows, matrix, sparse.hstack([subject, same_class]).tocsr()


def _describe(rows: Sequence[_Row], part: sparse.csr_matrix, end: float, half_life: float) -> dict[str, Any]:
    ages = np.array([end - row.day for row in rows])
    days = len({int(row.day) for row in rows})
    central = int(np.asarray(part @ part.sum(axis=0).T).ravel().argmax())
    place = _commonest([row.place for row in rows])
    return {
        "heat": round(float((0.5 ** (ages / half_life)).sum()) * math.sqrt(days / len(rows)), 4),
        "tickets": len(rows),
        "title": _title([row.text for row in rows[:_TITLE_TEXTS]], place),
        "place": place,
        "category": _commonest([row.category for row in rows]),
        "first": _day(min(row.day for row in rows)),
        "last": _day(max(row.day for row in rows)),
        "representative": rows[central].id,
        "ids": [row.id for row in rows],
    }


def _title(texts: Sequence[str], place: str | None) -> str:
    """The place, and the words that weigh most in what the texts share."""
    total: Counter[str] = Counter()
    held: Counter[str] = Counter()
    where = [place] if place else []
    for text in texts:
        matter = read_matter(text)
        for feature, weight in zip(matter.features.tolist(), matter.weights.tolist(), strict=True):
            name = matter.names.get(feature, "")
            if (
                len(name) > 1
                and is_common(name)
                and not any(name in known or known in name for known in (*matter.places, *where))
            ):
                total[name] += weight
                held[name] += 1
    words = [word for word, _ in total.most_common() if held[word] > len(texts) / 3][:_TITLE_WORDS]
    return ":".join(part for part in (place, "、".join(words)) if part)


def _commonest(values: Sequence[str | None]) -> str | None:
    counts = Counter(value for value in values if value)
    return counts.most_common(1)[0][0] if counts else None


def _day(day: float) -> str:
    return np.datetime_as_string(np.datetime64(int(day), "D"))


def _schema() -> dict[str, Any]:
    import polars as pl

    return {
        "rank": pl.Int64,
        "heat": pl.Float64,
        "tickets": pl.Int64,
        "title": pl.String,
        "place": pl.String,
        "category": pl.String,
        "first": pl.String,
        "last": pl.String,
        "representative": pl.String,
        "ids": pl.List(pl.String),
    }
