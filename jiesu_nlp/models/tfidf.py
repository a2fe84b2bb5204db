"""The default model: TF-IDF over words and character n-grams in blocks, one linear map to all heads.

Fitting (`fit_tfidf.py`) folds the calibrator into the weights, so that prediction is a single
sparse product and a softmax a head, and the signed contribution of a word is exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from jiesu_nlp import native
from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.features import BLOCK_SHARES, FeatureConfig, count_features, districts
from jiesu_nlp.models.base import FloatArray, columns, joined, remade, softmaxes, stored_taxonomy, width
from jiesu_nlp.models.store import check_arrays, read_folder, write_folder
from jiesu_nlp.segment import compiled
from jiesu_nlp.taxonomy import Taxonomy

KIND = "tfidf"
_CHUNK = 1000


class Read(NamedTuple):
    """Texts as the model has read them.

    Attributes:
        begins: where each text's entries begin, and where the last one's end: shape (texts + 1,).
        entries: numbers of features, ascending a text. values: theirs.
        scores: logits of all codes, shape (texts, columns).
    """

    begins: NDArray[np.int64]
    entries: NDArray[np.int32]
    values: FloatArray
    scores: FloatArray


@dataclass(frozen=True)
class TfidfModel:
    """A fitted model.

    Attributes:
        taxonomy: heads and codes, in the order of the weight columns.
        words, chars, first, last: the vocabulary of each block of `features.count_features`, in this order.
        idf: inverse document frequency, shape (features,).
        weights: int8, shape (features, columns); multiplied by `scale` (columns,).
        bias: shape (columns,).
        meta: name, version, metrics, thresholds, fingerprints; kept in ``model.json``.
    """

    taxonomy: Taxonomy
    words: tuple[str, ...]
    chars: tuple[str, ...]
    first: tuple[str, ...]
    last: tuple[str, ...]
    idf: FloatArray
    weights: NDArray[np.int8]
    scale: FloatArray
    bias: FloatArray
    config: FeatureConfig = field(default_factory=FeatureConfig)
    meta: Mapping[str, Any] = field(default_factory=dict)

    __reduce__ = remade

    @cached_property
    def _compiled(self) -> tuple[native.Counter, native.Linear]:
        shape = self.config.char_min, self.config.char_max, self.config.lead_weight, self.config.edge
        counter = native.Counter(self._blocks, BLOCK_SHARES, districts(), shape)
        return counter, native.Linear(self.idf, self._dense, self.bias)

    @property
    def _blocks(self) -> tuple[tuple[str, ...], ...]:
        return self.words, self.chars, self.first, self.last

    @cached_property
    def _number(self) -> list[dict[str, int]]:
        """The numbers of each block's entries."""
        begins = np.cumsum([0, *map(len, self._blocks[:-1])]).tolist()
        pairs = zip(self._blocks, begins, strict=True)
        return [{entry: i for i, entry in enumerate(block, at)} for block, at in pairs]

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

    def vectorise(self, texts: Sequence[str]) -> "Read":
        """Texts with their features and scores: compiled, or else the same in Python."""
        if native.loaded():
            counter, linear = self._compiled
            return Read(*counter.score(compiled(), texts, linear))
        begins, entries, values = self._values(texts)
        matrix = sparse.csr_matrix((values, entries, begins), shape=(len(texts), len(self.idf)))
        return Read(begins, entries, values, np.asarray(matrix @ self._dense) + self.bias)

    def _values(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int32], FloatArray]:
        """TF-IDF values before the idf, which the weights hold: blocks of the lengths `BLOCK_SHARES` a text."""
        begins, counted = [0], list[tuple[int, int]]()
        for text in texts:
            parts = zip(count_features(text, self.config), self._number, strict=True)
            counted += sorted((known[key], n) for part, known in parts for key, n in part.items() if key in known)
            begins.append(len(counted))
        entries = np.array([entry for entry, _ in counted], np.int32)
        values = 1.0 + np.log(np.array([n for _, n in counted], np.float64))
        part = np.searchsorted(np.cumsum([len(block) for block in self._blocks]), entries, "right")
        block = len(BLOCK_SHARES) * np.repeat(np.arange(len(texts)), np.diff(begins)) + part
        # A sum in the order of the entries, as the compiled part has it.
        length = np.sqrt(np.bincount(block, np.square(values * self.idf[entries])))
        values = values / length[block] * np.array(BLOCK_SHARES)[part]
        return np.array(begins), entries, values.astype(np.float32)

    def predict_proba(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """Calibrated probabilities, ``{head: (n, k) float32}``; a row sums to 1.

        A text's row does not depend on what else is in the batch: the product is computed row by
        row in feature order, never by a blocked kernel.
        """
        # Some at a time: room is made for the most that the texts can hold.
        starts = range(0, max(len(texts), 1), _CHUNK)
        return joined([self.probabilities(self.vectorise(texts[at : at + _CHUNK])) for at in starts])

    def probabilities(self, vectors: "Read") -> dict[str, FloatArray]:
        """`predict_proba` of texts that `vectorise` has read already."""
        return softmaxes(vectors.scores, self.columns)

    def explain(self, vectors: "Read", head: str, codes: Sequence[str], top: int = 8) -> list[list[tuple[str, float]]]:
        """Words of each text and their signed weight for its code against the mean of the head, largest first."""
        columns = [self._column[head, code] for code in codes]
        numbers, weights = (native.strongest if native.loaded() else _strongest)(
            *vectors[:3], self._apart, columns, top
        )
        return [
            [(self.words[i], weight) for i, weight in zip(*row, strict=True) if i >= 0]
            for row in zip(numbers, weights, strict=True)
        ]

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
        for name, entries in zip(_VOCABULARY, self._blocks, strict=True):
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
            lines = (arrays[name].tobytes().decode() for name in _VOCABULARY)
            words, chars, first, last = (tuple(entries.split("\n")) if entries else () for entries in lines)
            config = FeatureConfig(**meta["features"])
            if config.to_dict() != meta["features"]:
                raise KeyError(*config.to_dict().keys() - meta["features"].keys())
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"{folder}: model.json or the vocabulary is malformed ({error!r})") from error
        features, columns = sum(map(len, (words, chars, first, last))), width(taxonomy)
        shapes = {"idf": (features,), "weights": (features, columns), "scale": (columns,), "bias": (columns,)}
        check_arrays(folder, arrays, shapes)
        kept = {name: arrays[name] for name in shapes}
        largest = 127.0 * float(np.abs(kept["scale"]).max(initial=0)) * float(kept["idf"].max(initial=0))
        if kept["idf"].min(initial=1) < 1 or largest > float(np.finfo(np.float32).max):
            raise ModelFormatError(f"{folder}: idf or scale are none that a text could be weighed by; train again")
        return cls(taxonomy, words, chars, first, last, config=config, meta=meta, **kept)


_VOCABULARY = ("words", "chars", "first", "last")
_ARRAYS = {"idf": "F32", "weights": "I8", "scale": "F32", "bias": "F32"} | dict.fromkeys(_VOCABULARY, "U8")


def _strongest(
    begins: NDArray[np.int64],
    entries: NDArray[np.int32],
    values: FloatArray,
    weights: FloatArray,
    columns: Sequence[int],
    top: int,
) -> tuple[list[list[int]], list[list[float]]]:
    """`native.strongest` in numpy."""
    found, weight = [], []
    for begin, end, column in zip(begins.tolist(), begins[1:].tolist(), columns, strict=False):
        words = entries[begin:end][entries[begin:end] < len(weights)]
        contribution = values[begin : begin + len(words)] * weights[words, column]
        order = np.argsort(-np.abs(contribution), kind="stable")[:top]
        found.append(words[order].tolist())
        weight.append(contribution[order].tolist())
    return found, weight
