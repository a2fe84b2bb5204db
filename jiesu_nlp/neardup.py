"""Groups of near-copies among texts, so that no copy of a test text is trained on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize

from jiesu_nlp.features import prepare

SIMILARITY = 0.5
"""Cosine of rare character 4-grams from which two texts count as one; chosen by reading pairs of
the labelled complaints: above it they are resubmissions, below it different tickets on one matter."""

_TOO_COMMON = 200
"""Texts that may share a 4-gram for it to be compared by: what bounds the number of pairs."""
_BLOCK = 2048
_DRAWS = 8


def near_duplicate_groups(texts: Sequence[str], similarity: float = SIMILARITY) -> NDArray[np.int64]:
    """A group number for each text, shape (n,); near-copies share one.

    Texts too short to have a 4-gram that occurs twice stay alone unless they are equal.
    """
    prepared = [prepare(text) for text in texts]
    first: dict[str, int] = {}
    same = np.array([first.setdefault(text, i) for i, text in enumerate(prepared)], dtype=np.int64)
    unique = np.flatnonzero(same == np.arange(len(texts)))
    vectoriser = CountVectorizer(analyzer="char", ngram_range=(4, 4), dtype=np.float32)
    try:
        counts = vectoriser.fit_transform(prepared[i] for i in unique)
    except ValueError:  # no text is long enough for a 4-gram
        return np.unique(same, return_inverse=True)[1].astype(np.int64)
    pairs = np.hstack([_close(counts, similarity), _copies_of_many(counts, (1 + similarity) / 2)])
    graph = coo_matrix((np.ones(pairs.shape[1]), pairs), shape=(len(unique), len(unique)))
    component = connected_components(graph, directed=False)[1]
    position = np.empty(len(texts), dtype=np.int64)
    position[unique] = component
    return position[same]


def _close(counts: csr_matrix, similarity: float) -> NDArray[np.int64]:
    """All pairs of rows, shape (2, pairs), that are close by the 4-grams that few texts share."""
    texts = np.bincount(counts.indices, minlength=counts.shape[1])
    if not (texts <= _TOO_COMMON).any():
        return np.zeros((2, 0), np.int64)
    # Rows get their unit length over all of these, then those of a single text are dropped: they cannot
    # match, but without their length two short texts would look alike for one shared phrase.
    matrix = TfidfTransformer().fit_transform(counts[:, texts <= _TOO_COMMON])
    matrix = matrix[:, texts[texts <= _TOO_COMMON] > 1].tocsr()
    rows, columns = [], []
    for start in range(0, matrix.shape[0], _BLOCK):
        close = (matrix[start : start + _BLOCK] @ matrix.T).tocoo()
        keep = close.data >= similarity  # a text without a shared 4-gram meets nobody, not even itself
        rows.append(close.row[keep] + start)
        columns.append(close.col[keep])
    return np.vstack([np.concatenate(rows), np.concatenate(columns)]).astype(np.int64)


def _copies_of_many(counts: csr_matrix, similarity: float) -> NDArray[np.int64]:
    """Pairs that chain up copies of which there are too many for `_close`, as of a petition that hundreds sent.

    Copies mostly agree in the first of their 4-grams in a random order (Broder's min-wise hashing). Of the
    texts that do, where they are many, each is compared with the next one, for several such orders. All
    4-grams count alike here, phrases of office among them, so texts must be closer than for `_close`.
    """
    matrix = normalize(counts)
    filled = np.flatnonzero(np.diff(counts.indptr))
    rng = np.random.default_rng(0)
    found = [np.zeros((2, 0), np.int64)]
    for _ in range(_DRAWS):
        place = rng.permutation(counts.shape[1])[counts.indices]
        key = np.minimum.reduceat(place, counts.indptr[:-1][filled])
        many = np.bincount(key)[key] > _TOO_COMMON
        order = np.lexsort((filled[many], key[many]))
        a, b = filled[many][order[:-1]], filled[many][order[1:]]
        cosine = np.asarray(matrix[a].multiply(matrix[b]).sum(axis=1)).ravel()
        found.append(np.vstack([a, b])[:, cosine >= similarity])
    return np.hstack(found)
