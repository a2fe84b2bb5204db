"""The default model: TF-IDF over words and character n-grams, one linear map to all heads.

Fitting (`fit_tfidf.py`) folds the calibrator into the weights, so that prediction is a single
sparse product and a softmax a head, and the signed contribution of a word is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.features import FeatureConfig
from jiesu_nlp.models.base import FloatArray, columns, softmax, stored_taxonomy, width
from jiesu_nlp.models.grams import Counter
from jiesu_nlp.models.store import check_arrays, read_folder, write_folder
from jiesu_nlp.taxonomy import Taxonomy

KIND = "tfidf"


@dataclass(frozen=True)
class TfidfModel:
    """A fitted model.

    Attributes:
        taxonomy: heads and codes, in the order of the weight columns.
        vocabulary: ``words`` then ``chars`` entries, each a tuple of strings.
        idf: inverse document frequency, shape (features,).
        weights: int8, shape (features, columns); multiplied by `scale` (columns,).
        bias: shape (columns,).
        meta: name, version, metrics, thresholds, fingerprints; kept in ``model.json``.
    """

    taxonomy: Taxonomy
    words: tuple[str, ...]
    chars: tuple[str, ...]
    idf: FloatArray
    weights: NDArray[np.int8]
    scale: FloatArray
    bias: FloatArray
    config: FeatureConfig = field(default_factory=FeatureConfig)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _counter(self) -> Counter:
        return Counter(self.words, self.chars, self.config)

    @cached_property
    def _dense(self) -> FloatArray:
        return self.weights.astype(np.float32) * (self.scale * self.idf[:, None])

    @cached_property
    def _apart(self) -> FloatArray:
        """The weights of the words less the mean of their head, shape (words, columns)."""
        of_words = self._dense[: len(self.words)]
        means = [of_words[:, columns].mean(axis=1, keepdims=True) for columns in self.columns.values()]
        apart: FloatArray = of_words - np.repeat(np.hstack(means), list(map(len, self.taxonomy.heads.values())), axis=1)
        return apart

    @cached_property
    def _column(self) -> dict[tuple[str, str], int]:
        """The weight column of each head's code."""
        heads = self.taxonomy.heads.items()
        pairs = [(head, label.code) for head, labels in heads for label in labels]
        return {pair: column for column, pair in enumerate(pairs)}

    @cached_property
    def columns(self) -> dict[str, slice]:
        """The weight columns of each head."""
        return columns(self.taxonomy)

    def vectorise(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Feature values before idf weighting folded in: shape (n, features), two unit blocks a row."""
        begins, entries, counts = self._counter.count(texts)
        values = 1.0 + np.log(counts)
        # Words and n-grams of a row are two blocks, each of unit length; both are runs of the sorted entries.
        block = 2 * np.repeat(np.arange(len(texts)), np.diff(begins)) + (entries >= len(self.words))
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        if len(starts):
            length = np.sqrt(np.add.reduceat(np.square(values * self.idf[entries]), starts))
            values /= np.repeat(length, np.diff(np.append(starts, len(block))))
        return sparse.csr_matrix((values.astype(np.float32), entries, begins), shape=(len(texts), len(self.idf)))

    def predict_proba(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Calibrated probabilities, ``{head: (n, k) float32}``; a row sums to 1.

        A text's row does not depend on what else is in the batch: the product is computed row by
        row in feature order, never by a blocked kernel.
        """
        return self.probabilities(self.vectorise(texts))

    def probabilities(self, matrix: sparse.csr_matrix) -> dict[str, FloatArray]:
        """`predict_proba` of texts that `vectorise` has read already."""
        logits = np.asarray(matrix @ self._dense) + self.bias
        return {head: softmax(logits[:, columns]) for head, columns in self.columns.items()}

    def explain(
        self, vectors: sparse.csr_matrix, row: int, head: str, code: str, top: int = 8
    ) -> list[tuple[str, float]]:
        """Words and their signed weight for this code against the mean of its head, largest first."""
        entries = vectors.indices[vectors.indptr[row] : vectors.indptr[row + 1]]
        words = entries[: entries.searchsorted(len(self.words))]  # they stand before the n-grams
        values = vectors.data[vectors.indptr[row] :][: len(words)]
        contribution = values * self._apart[words, self._column[head, code]]
        strongest = (-np.abs(contribution)).argsort(kind="stable")[:top]
        named = (self.words[i] for i in words[strongest].tolist())
        return list(zip(named, contribution[strongest].tolist(), strict=True))

    def with_meta(self, meta: Mapping[str, Any]) -> "TfidfModel":
        """The same model, saying this of itself."""
        return replace(self, meta=meta)

    def save(self, folder: str) -> None:
        """Write ``model.json`` and ``arrays.safetensors``."""
        meta = dict(self.meta) | {"kind": KIND, "features": self.config.to_dict(), "taxonomy": self.taxonomy.to_dict()}
        arrays: dict[str, NDArray[Any]] = {
            "idf": self.idf,
            "weights": self.weights,
            "scale": self.scale,
            "bias": self.bias,
        }
        for name, entries in (("words", self.words), ("chars", self.chars)):
            arrays[name] = np.frombuffer("\n".join(entries).encode(), dtype=np.uint8)
        write_folder(folder, meta, arrays)

    @classmethod
    def load(cls, folder: str) -> "TfidfModel":
        """Read a model folder.

        Raises:
            ModelFormatError: unreadable, damaged, of another kind or inconsistent.
        """
        meta, arrays = read_folder(folder, KIND, _ARRAYS)
        taxonomy = stored_taxonomy(folder, meta)
        try:
            words, chars = (tuple(arrays[k].tobytes().decode().split("\n")) for k in ("words", "chars"))
            config = FeatureConfig(**meta["features"])
        except (KeyError, TypeError, UnicodeDecodeError) as error:
            raise ModelFormatError(f"{folder}: model.json or the vocabulary is malformed ({error!r})") from error
        features, columns = len(words) + len(chars), width(taxonomy)
        shapes = {"idf": (features,), "weights": (features, columns), "scale": (columns,), "bias": (columns,)}
        check_arrays(folder, arrays, shapes)
        kept = {name: arrays[name] for name in shapes}
        return cls(taxonomy, words, chars, config=config, meta=meta, **kept)


_ARRAYS = {"idf": "F32", "weights": "I8", "scale": "F32", "bias": "F32", "words": "U8", "chars": "U8"}
