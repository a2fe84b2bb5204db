"""Groups of near-copies among texts, so that no copy of a test text is trained on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import TfidfVectorizer

from jiesu_nlp.features import prepare

SIMILARITY = 0.5
"""Cosine of rare character 4-grams from which two texts count as one; chosen by reading pairs of
the labelled complaints: above it they are resubmissions, below it different tickets on one matter."""

_TOO_COMMON = 200
_BLOCK = 2048


def near_duplicate_groups(texts: Sequence[str], similarity: float = SIMILARITY) -> NDArray[np.int64]:
    """A group number for each text, shape (n,); near-copies share one.

    Texts too short to have a 4-gram that occurs twice stay alone unless they are equal.
    """
    prepared = [prepare(text) for text in texts]
    first: dict[str, int] = {}
    same = np.array([first.setdefault(text, i) for i, text in enumerate(prepared)], dtype=np.int64)
    unique = np.flatnonzero(same == np.arange(len(texts)))
    # Rows get their unit length over all 4-grams, then those of a single text are dropped: they
    # cannot match, but without their length two short texts would look alike for one shared phrase.
    vectoriser = TfidfVectorizer(analyzer="char", ngram_range=(4, 4), max_df=_TOO_COMMON, dtype=np.float32)
    try:
        matrix = vectoriser.fit_transform(prepared[i] for i in unique)
    except ValueError:  # no text is long enough for a 4-gram
        return np.unique(same, return_inverse=True)[1].astype(np.int64)
    matrix = matrix[:, np.bincount(matrix.indices, minlength=matrix.shape[1]) > 1].tocsr()
    rows, columns = [], []
    for start in range(0, matrix.shape[0], _BLOCK):
        close = (matrix[start : start + _BLOCK] @ matrix.T).tocoo()
        keep = close.data >= similarity  # a text without a shared 4-gram meets nobody, not even itself
        rows.append(close.row[keep] + start)
        columns.append(close.col[keep])
    r, c = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(r)), (r, c)), shape=(len(unique), len(unique)))
    component = connected_components(graph, directed=False)[1]
    position = np.empty(len(texts), dtype=np.int64)
    position[unique] = component
    return position[same]
