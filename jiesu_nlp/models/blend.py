"""Two models as one: a weighted sum of their log-probabilities, calibrated by the same weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jiesu_nlp.models.base import FloatArray, IntArray, Model, softmax, stored_taxonomy
from jiesu_nlp.models.bert import BertModel
from jiesu_nlp.models.store import check_arrays, model_folder, read_file, read_folder, write_folder
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.taxonomy import Taxonomy

KIND = "blend"
_FLOOR = 1e-6
_PARTS: dict[str, type[TfidfModel] | type[BertModel]] = {"tfidf": TfidfModel, "bert": BertModel}


_ALL = 10**6


@dataclass(frozen=True)
class BlendModel:
    """A TF-IDF model and an encoder, blended head by head.

    Attributes:
        taxonomy: that of both. parts: the models.
        weights: ``{head: (weight of each part)}``; as they need not sum to 1, they calibrate too.
        meta: name, version, metrics, thresholds, fingerprints; kept in ``model.json``.
    """

    taxonomy: Taxonomy
    parts: tuple[Model, ...]
    weights: Mapping[str, tuple[float, ...]]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def vectorise(self, texts: Sequence[str]) -> list[Any]:
        """What each part reads."""
        return [part.vectorise(texts) for part in self.parts]

    def probabilities(self, vectors: list[Any]) -> dict[str, FloatArray]:
        """Calibrated probabilities, ``{head: (n, k) float32}``; a row sums to 1."""
        return self._blended([part.probabilities(read) for part, read in zip(self.parts, vectors, strict=True)])

    def _blended(self, each: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
        return {head: blend([p[head] for p in each], self.weights[head]) for head in self.taxonomy.heads}

    def predict_proba(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """`probabilities` of texts."""
        return self._blended([part.predict_proba(texts) for part in self.parts])

    def explain(
        self, vectors: list[Any], head: str, codes: Sequence[str], top: int = 8
    ) -> list[list[tuple[str, float]]]:
        """Words of each text and their signed weight for its code: the parts', added up."""
        total: list[dict[str, float]] = [{} for _ in codes]
        for part, read, weight in zip(self.parts, vectors, self.weights[head], strict=True):
            for known, words in zip(total, part.explain(read, head, codes, _ALL), strict=True):
                for word, value in words:
                    known[word] = known.get(word, 0.0) + weight * value
        return [sorted(known.items(), key=lambda pair: -abs(pair[1]))[:top] for known in total]

    def with_meta(self, meta: Mapping[str, Any]) -> "BlendModel":
        """The same model, saying this of itself."""
        return replace(self, meta=meta)

    def save(self, folder: str) -> None:
        """Write the parts into folders of their own, then ``model.json``."""
        for name, part in zip(_PARTS, self.parts, strict=True):
            part.save(str(Path(folder) / name))
        files = {f"{name}/model.json": (Path(folder) / name / "model.json").read_bytes() for name in _PARTS}
        meta = dict(self.meta) | {"kind": KIND, "taxonomy": self.taxonomy.to_dict()}
        rows = np.array([self.weights[head] for head in self.taxonomy.heads], np.float32)
        write_folder(folder, meta, {"weights": rows}, files)

    @classmethod
    def load(cls, folder: str) -> "BlendModel":
        """Read a model folder.

        Raises:
            ModelFormatError: unreadable, damaged, of another kind or inconsistent.
        """
        meta, arrays = read_folder(folder, KIND, {"weights": "F32"})
        taxonomy = stored_taxonomy(folder, meta)
        rows = arrays["weights"]
        check_arrays(folder, arrays, {"weights": (len(taxonomy.heads), len(_PARTS))})
        for name in _PARTS:  # the one that was blended, which knows its own files
            read_file(folder, meta, f"{name}/model.json", _part(folder, name) / "model.json")
        parts = tuple(kind.load(str(_part(folder, name))) for name, kind in _PARTS.items())
        weights = {head: tuple(map(float, row)) for head, row in zip(taxonomy.heads, rows, strict=True)}
        return cls(taxonomy, parts, weights, meta)


def _part(folder: str, name: str) -> Path:
    """The folder of a part: its own, or that of the packaged default model, which need not be there twice."""
    own = Path(folder) / name
    return own if own.exists() or name != "tfidf" else model_folder()


def blend(probabilities: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
    """One head's probabilities by several models, each of shape (n, k), as one."""
    logs = [np.float32(w) * np.log(p + _FLOOR) for p, w in zip(probabilities, weights, strict=True)]
    return softmax(np.sum(logs, axis=0, dtype=np.float32))


def fit_weights(probabilities: Sequence[FloatArray], target: IntArray) -> tuple[float, ...]:
    """Weights with the least cross-entropy on rows that none of the models has seen.

    Args:
        target: positions of the codes, shape (n,), none missing.
    """
    from scipy.optimize import minimize  # slow to import, and only training needs it

    n = np.arange(len(target))

    def loss(weights: "np.ndarray[Any, Any]") -> float:
        return -float(np.log(blend(probabilities, weights.tolist())[n, target] + _FLOOR).mean())

    start = np.full(len(probabilities), 1 / len(probabilities))
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(0, 3)] * len(start), options={"eps": 1e-3})
    return tuple(round(float(w), 4) for w in found.x)
