"""What every model can do, whatever it is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.taxonomy import Label, Taxonomy

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


def remade(model: Any) -> tuple[Any, ...]:
    """How a model is pickled: by its fields, without what runs it, which is made anew where it is needed."""
    return type(model), tuple(getattr(model, f.name) for f in fields(model))


class Model(Protocol):
    """Texts in, calibrated probabilities a head out.

    Reading a text (`vectorise`) and judging it (`probabilities`) are two steps, so that what was read
    serves the explanation too. What `vectorise` returns is the model's own business.
    """

    @property
    def taxonomy(self) -> Taxonomy:
        """Heads and codes, in the order of the probabilities."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """Name, version, metrics, thresholds, fingerprints; kept in ``model.json``."""

    def vectorise(self, texts: Sequence[str]) -> Any:
        """What the model reads of texts."""

    def probabilities(self, vectors: Any) -> dict[str, FloatArray]:
        """``{head: (n, k)}`` of texts that `vectorise` has read; a row sums to 1.

        A text's row does not depend on what else is in the batch.
        """

    def predict_proba(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """`probabilities` of texts."""

    def explain(self, vectors: Any, head: str, codes: Sequence[str], top: int = 8) -> list[list[tuple[str, float]]]:
        """Words of each text and their signed weight for its code against the mean of the head, largest first."""

    def with_meta(self, meta: Mapping[str, Any]) -> "Model":
        """The same model, saying this of itself."""

    def save(self, folder: str) -> None:
        """Write a model folder."""


def columns(taxonomy: Taxonomy) -> dict[str, slice]:
    """Where each head's codes stand, all heads side by side."""
    ends = np.cumsum([0] + [len(labels) for labels in taxonomy.heads.values()])
    return {head: slice(int(ends[i]), int(ends[i + 1])) for i, head in enumerate(taxonomy.heads)}


def width(taxonomy: Taxonomy) -> int:
    """Number of codes of all heads."""
    return sum(map(len, taxonomy.heads.values()))


def softmax(logits: FloatArray) -> FloatArray:
    """Row-wise softmax."""
    exp = np.exp(logits - np.maximum.reduce(logits, axis=1, keepdims=True))
    return np.asarray(exp / np.add.reduce(exp, axis=1, keepdims=True), dtype=np.float32)


def softmaxes(logits: FloatArray, heads: Mapping[str, slice]) -> dict[str, FloatArray]:
    """Row-wise softmax of each head, whose columns stand side by side and fill the rows."""
    # In few steps, and by the ufuncs themselves: for few rows, numpy's ways to the work take longer than the work.
    starts, widths = zip(*((columns.start, columns.stop - columns.start) for columns in heads.values()), strict=True)
    most = np.maximum.reduceat(logits, starts, axis=1)
    exp = np.exp(logits - np.repeat(most, widths, axis=1))
    return {
        head: np.asarray(part / np.add.reduce(part, axis=1, keepdims=True), dtype=np.float32)
        for head, part in ((head, exp[:, columns]) for head, columns in heads.items())
    }


def joined(parts: Sequence[Mapping[str, FloatArray]]) -> dict[str, FloatArray]:
    """Probabilities of several batches, one under the other."""
    return {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}


def stored_taxonomy(folder: str, meta: Mapping[str, Any]) -> Taxonomy:
    """The label sets that a model was trained on, from its ``model.json``.

    Raises:
        ModelFormatError: they are missing or malformed.
    """
    try:
        stored = meta["taxonomy"]
        heads = {head: tuple(Label(*row) for row in rows) for head, rows in stored["heads"].items()}
        aliases = {head: dict(known) for head, known in stored.get("aliases", {}).items()}
        return Taxonomy(stored["name"], stored["version"], heads, aliases)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelFormatError(f"{folder}: the taxonomy in model.json is malformed ({error!r})") from error


def migrate(model: Model, taxonomy: Taxonomy) -> Model:
    """The same model under a taxonomy whose codes were renamed; merged codes add up.

    Raises:
        TaxonomyMismatchError: the taxonomy lacks codes of the model, or has others, and its ``mapping.csv``
            does not say what became of them.
    """
    return Migrated(model, taxonomy, {h: taxonomy.migrate(h, model.taxonomy.codes(h)) for h in model.taxonomy.heads})


@dataclass(frozen=True)
class Migrated:
    """A model read through a mapping of old codes to the positions of new ones.

    A merge adds probabilities, not weights, so the model itself stays as it is.
    """

    model: Model
    taxonomy: Taxonomy
    positions: Mapping[str, list[int]]

    @property
    def meta(self) -> Mapping[str, Any]:
        """The model's."""
        return self.model.meta

    def vectorise(self, texts: Sequence[str]) -> Any:
        """As the model reads them."""
        return self.model.vectorise(texts)

    def probabilities(self, vectors: Any) -> dict[str, FloatArray]:
        """The model's, added up by new code."""
        merged = {}
        for head, old in self.model.probabilities(vectors).items():
            new = np.zeros((len(old), len(self.taxonomy.codes(head))), np.float32)
            for column, position in enumerate(self.positions[head]):
                new[:, position] += old[:, column]
            merged[head] = new
        return merged

    def predict_proba(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """`probabilities` of texts."""
        return self.probabilities(self.vectorise(texts))

    def explain(self, vectors: Any, head: str, codes: Sequence[str], top: int = 8) -> list[list[tuple[str, float]]]:
        """For the first of the old codes that became each."""
        new, old = self.taxonomy.codes(head), self.model.taxonomy.codes(head)
        became = [old[self.positions[head].index(new.index(code))] for code in codes]
        return self.model.explain(vectors, head, became, top)

    def with_meta(self, meta: Mapping[str, Any]) -> "Migrated":
        """The same model, saying this of itself."""
        return replace(self, model=self.model.with_meta(meta))

    def save(self, folder: str) -> None:
        """Write the model as it is, under its old taxonomy."""
        self.model.save(folder)
