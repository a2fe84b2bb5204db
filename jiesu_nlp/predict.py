"""The answer: text in, `Classification` out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from scipy import sparse

from jiesu_nlp.cues import RECURRENCE_KINDS, Cue, find_cues
from jiesu_nlp.errors import InvalidTextError, ModelFormatError
from jiesu_nlp.handling import Handling, decide
from jiesu_nlp.models.tfidf import FloatArray, TfidfModel
from jiesu_nlp.taxonomy import Label, Taxonomy
from jiesu_nlp.text import check_text

_GROUP_SURE = 0.9
_WHISTLE = 0.25
"""Probability from which an assisting department makes a street's ticket one for several units; above
the cut for naming it, because a whistle (吹哨) calls people in."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A label with its calibrated probability."""

    code: str
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Recurrence:
    """未诉先办: could the matter have been handled before this complaint?

    Attributes:
        score: P(label ≥ 1), 0..1. score_known: P(label = 2), 0..1.
        level: most probable label, 0, 1 or 2.
        is_prior: no history was given, so the text alone speaks.
        evidence: spans of the caller's text that say so.
    """

    score: float
    score_known: float
    level: int
    is_prior: bool
    evidence: tuple[Cue, ...]


@dataclass(frozen=True, slots=True)
class WordWeight:
    """A word that spoke for (positive) or against (negative) the code chosen for a head."""

    head: str
    word: str
    weight: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model answered."""

    name: str
    version: str
    taxonomy_version: str


@dataclass(frozen=True, slots=True)
class Classification:
    """What is known of one complaint.

    Attributes:
        categories, departments, intents: ranked, most probable first, `top` of them.
        assisting: 协办, departments whose help is also needed; maybe none.
        group: 七有 or 五性 with its own probability, where that is at least 0.9.
        needs_review: a confidence is under the threshold that was set on held-out data.
        review_reasons: why, in Chinese; empty when no review is needed.
    """

    category: Scored
    categories: tuple[Scored, ...]
    department: Scored
    departments: tuple[Scored, ...]
    assisting: tuple[Scored, ...]
    intent: Scored
    intents: tuple[Scored, ...]
    group: Scored | None
    handling: Handling
    recurrence: Recurrence
    needs_review: bool
    review_reasons: tuple[str, ...]
    explanation: tuple[WordWeight, ...]
    model: ModelInfo

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; ``docs/classification.schema.json`` describes it."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


@dataclass(frozen=True, slots=True)
class Rejected:
    """Stands in a batch's answer for a text that cannot be classified.

    Attributes:
        row: its position in the batch, from 0.
        error: name of the error class. message: what to do; never quotes the text.
    """

    row: int
    error: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


class Classifier:
    """A loaded model that answers. Immutable, so one may serve many threads."""

    def __init__(self, model: TfidfModel, taxonomy: Taxonomy | None = None) -> None:
        """Wrap a model, read through `taxonomy` where one is given.

        Raises:
            ModelFormatError: the model was trained on another label set than answers are made of.
            TaxonomyMismatchError: the taxonomy lacks codes of the model, or has others, and its
                ``mapping.csv`` does not say what became of them.
        """
        for head in ("category", "department", "intent", "recurrence"):
            if head not in model.taxonomy.heads:
                raise ModelFormatError(f"the model has no head {head!r}; use model.predict_proba for other label sets")
        self._model = model.migrate(taxonomy) if taxonomy else model
        self._taxonomy = taxonomy or model.taxonomy
        meta = model.meta
        self._thresholds: Mapping[str, float] = meta.get("thresholds", {})
        self._assisting = float(self._thresholds.get("assisting", 1.0))
        self._info = ModelInfo(str(meta.get("name")), str(meta.get("version")), self._taxonomy.version)

    @classmethod
    def load(cls, path: str | Path | None = None, taxonomy: Taxonomy | None = None) -> "Classifier":
        """Load a model folder, the packaged default model when ``None``.

        Raises:
            ModelFormatError: the folder cannot be read.
        """
        return cls(TfidfModel.load(str(path or default_model_folder())), taxonomy)

    @property
    def taxonomy(self) -> Taxonomy:
        """The label sets of the answers."""
        return self._taxonomy

    @property
    def model(self) -> TfidfModel:
        """The model behind the answers."""
        return self._model

    @overload
    def classify(self, text: str, *, top: int = 3) -> Classification: ...
    @overload
    def classify(self, text: list[str] | tuple[str, ...], *, top: int = 3) -> list[Classification | Rejected]: ...
    def classify(
        self, text: str | list[str] | tuple[str, ...], *, top: int = 3
    ) -> Classification | list[Classification | Rejected]:
        """One text in, one answer out; a list in, a list out.

        In a list, a text that cannot be classified leaves a `Rejected` in its place.

        Raises:
            InvalidTextError: a single text that cannot be classified.
        """
        if isinstance(text, list | tuple):
            return self.classify_batch(text, top=top)
        checked = check_text(text)
        return self._answers([checked], top)[0]

    def classify_batch(
        self, texts: Sequence[str], batch_size: int = 256, *, top: int = 3
    ) -> list[Classification | Rejected]:
        """Answers in the order of `texts`; they do not depend on `batch_size`."""
        answers: list[Classification | Rejected] = []
        for start in range(0, len(texts), batch_size):
            good: list[tuple[int, str]] = []
            bad: dict[int, Rejected] = {}
            for row, text in enumerate(texts[start : start + batch_size], start):
                try:
                    good.append((row, check_text(text)))
                except InvalidTextError as error:
                    bad[row] = Rejected(row, type(error).__name__, str(error))
            done = dict(zip([row for row, _ in good], self._answers([text for _, text in good], top), strict=True))
            answers += [done.get(row) or bad[row] for row in range(start, start + len(good) + len(bad))]
        return answers

    def _answers(self, texts: Sequence[str], top: int) -> list[Classification]:
        """Answers for checked texts; each is segmented and counted once, for labels and explanation alike."""
        matrix = self._model.vectorise(texts)
        probabilities = self._model.probabilities(matrix)
        return [
            self._answer(text, matrix[i], {head: p[i] for head, p in probabilities.items()}, top)
            for i, text in enumerate(texts)
        ]

    def _answer(self, text: str, vector: sparse.csr_matrix, rows: Mapping[str, FloatArray], top: int) -> Classification:
        ranked = {head: self._rank(head, p) for head, p in rows.items()}
        category, department, intent = (ranked[h][0] for h in ("category", "department", "intent"))
        assisting = tuple(d for d in ranked["department"][1:3] if d.probability >= self._assisting)
        several = any(d.probability >= _WHISTLE for d in assisting)
        cues = find_cues(text)
        reasons = tuple(
            f"{title}把握不足:{ranked[head][0].probability:.2f} < {self._thresholds[head]:.2f}"
            for head, title in (("category", "类别"), ("department", "部门"))
            if ranked[head][0].probability < self._thresholds.get(head, 0.0)
        )
        p = rows["recurrence"]
        evidence = tuple(cue for cue in cues if cue.kind in RECURRENCE_KINDS)
        return Classification(
            category=category,
            categories=ranked["category"][:top],
            department=department,
            departments=ranked["department"][:top],
            assisting=assisting,
            intent=intent,
            intents=ranked["intent"][:top],
            group=self._group(rows["category"]),
            handling=decide(intent.code, department.code, several, {cue.kind for cue in cues}),
            recurrence=Recurrence(float(p[1] + p[2]), float(p[2]), int(p.argmax()), True, evidence),
            needs_review=bool(reasons),
            review_reasons=reasons,
            explanation=tuple(
                WordWeight(head, word, weight)
                for head in ("category", "department")
                for word, weight in self._model.explain(vector, head, ranked[head][0].code)
            ),
            model=self._info,
        )

    def _rank(self, head: str, p: FloatArray) -> tuple[Scored, ...]:
        labels: Sequence[Label] = self._taxonomy.heads[head]
        order = np.argsort(-p, kind="stable")
        return tuple(Scored(labels[i].code, labels[i].name, float(p[i])) for i in order)

    def _group(self, p: FloatArray) -> Scored | None:
        sums: dict[str, float] = {}
        for label, value in zip(self._taxonomy.heads["category"], p, strict=True):
            sums[label.parent] = sums.get(label.parent, 0.0) + float(value)
        name, probability = max(sums.items(), key=lambda item: item[1])
        return Scored(name, name, probability) if probability >= _GROUP_SURE else None


def default_model_folder() -> Path:
    """The packaged default model."""
    return Path(__file__).parent / "default_model"


@cache
def _default() -> Classifier:
    return Classifier.load()


@overload
def classify(text: str, *, top: int = 3) -> Classification: ...
@overload
def classify(text: list[str] | tuple[str, ...], *, top: int = 3) -> list[Classification | Rejected]: ...
def classify(
    text: str | list[str] | tuple[str, ...], *, top: int = 3
) -> Classification | list[Classification | Rejected]:
    """Classify with the packaged default model; see `Classifier.classify`.

    >>> from jiesu_nlp import classify
    >>> classify("小区自来水管老化渗水,居民用水困难,反映多次没人管").department.code
    'water'
    """
    return _default().classify(text, top=top)
