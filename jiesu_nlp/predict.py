"""The answer: text in, `Classification` out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from jiesu_nlp.answer import Classification, Evidence, ModelInfo, Recurrence, Rejected, Scored, WordWeight
from jiesu_nlp.asked import Asked, Options, read_options
from jiesu_nlp.cues import RECURRENCE_KINDS, Cue, find_cues
from jiesu_nlp.errors import InvalidTextError, ModelFormatError
from jiesu_nlp.handling import decide
from jiesu_nlp.models.base import FloatArray, Model, migrate
from jiesu_nlp.models.load import load_model
from jiesu_nlp.recurrence import LEVELS, Past, look_back, read_parameters, text_levels, with_past
from jiesu_nlp.taxonomy import Taxonomy
from jiesu_nlp.text import check_text

if TYPE_CHECKING:
    from jiesu_nlp.history import History

__all__ = ["Classification", "Classifier", "Rejected", "classify"]

_RANKED = ("category", "department", "intent")
_HEADS = (*_RANKED, "recurrence")
_EXPLAINED = ("category", "department")
_DECIDING = 3
"""The first so many departments decide who assists."""
_GROUP_SURE = 0.9
_NO_EVIDENCE = 0.05
"""P(level 2) below which phrases that look like evidence are not shown: readers mark few of them."""
_PAST_BASIS = "条例第二十四条"
_PAST_SHOWN = 5
_WHISTLE = 0.25
"""Probability from which an assisting department makes a street's ticket one for several units; above
the cut for naming it, because a whistle (吹哨) calls people in."""

_decide = lru_cache(4096)(decide)


class Classifier:
    """A loaded model that answers. Immutable, so one may serve many threads."""

    def __init__(self, model: Model, taxonomy: Taxonomy | None = None) -> None:
        """Wrap a model, read through `taxonomy` where one is given.

        A head that the model was not trained for (a table had only departments, say) is answered by the
        packaged model; so is recurrence where its labels are others than the levels 0, 1 and 2.

        Raises:
            ModelFormatError: the model has none of the heads that answers are made of.
            TaxonomyMismatchError: the taxonomy lacks codes of the model, or has others, and its
                ``mapping.csv`` does not say what became of them.
        """
        missing = [head for head in _HEADS if head not in model.taxonomy.heads]
        if "recurrence" not in missing and model.taxonomy.codes("recurrence") != LEVELS:
            missing.append("recurrence")
        if len(missing) == len(_HEADS):
            raise ModelFormatError(
                f"the model has none of the heads {', '.join(_HEADS)}; use model.predict_proba for other label sets"
            )
        own = migrate(model, taxonomy) if taxonomy else model
        packaged = load_model() if missing else own
        # The model that each head is answered by: what one's own was not trained for, the packaged one knows.
        self._by_head = {head: packaged if head in missing else own for head in _HEADS}
        self._model = own
        labels = taxonomy or model.taxonomy
        heads = {h: m.taxonomy.heads[h] if h in missing else labels.heads[h] for h, m in self._by_head.items()}
        self._taxonomy = replace(labels, heads=heads) if missing else labels
        meta = model.meta
        self._recurrence = read_parameters(self._by_head["recurrence"].meta.get("recurrence"))
        self._thresholds: Mapping[str, float] = {
            head: m.meta.get("thresholds", {}).get(head, 0.0) for head, m in self._by_head.items()
        }
        assisting = self._by_head["department"].meta.get("thresholds", {}).get("assisting", 1.0)
        self._assisting = float(assisting)
        self._info = ModelInfo(str(meta.get("name")), str(meta.get("version")), self._taxonomy.version)

    @classmethod
    def load(cls, path: str | Path | None = None, taxonomy: Taxonomy | None = None) -> "Classifier":
        """Load a model folder, or a packaged model: ``accurate``, or the default one when ``None``.

        Raises:
            ModelFormatError: the folder cannot be read.
        """
        return cls(load_model(path), taxonomy)

    @property
    def taxonomy(self) -> Taxonomy:
        """The label sets of the answers."""
        return self._taxonomy

    @property
    def model(self) -> Model:
        """The model behind the answers."""
        return self._model

    @overload
    def classify(self, text: str, **options: Unpack[Options]) -> Classification: ...
    @overload
    def classify(
        self, text: list[str] | tuple[str, ...], **options: Unpack[Options]
    ) -> list[Classification | Rejected]: ...
    def classify(
        self, text: str | list[str] | tuple[str, ...], **options: Unpack[Options]
    ) -> Classification | list[Classification | Rejected]:
        """One text in, one answer out; a list in, a list out. See `Options`.

        In a list, a text that cannot be classified leaves a `Rejected` in its place.

        Raises:
            InvalidTextError: a single text that cannot be classified.
        """
        if isinstance(text, list | tuple):
            return self.classify_batch(text, **options)
        asked = read_options([check_text(text)], options)
        return self._answers(asked, options)[0]

    def classify_batch(
        self, texts: Sequence[str], batch_size: int = 256, **options: Unpack[Options]
    ) -> list[Classification | Rejected]:
        """Answers in the order of `texts`; they do not depend on `batch_size`."""
        if batch_size < 1:
            raise ValueError("batch_size must be 1 or more")
        asked = read_options(texts, options)
        answers: list[Classification | Rejected] = []
        for start in range(0, len(asked), batch_size):
            good: list[int] = []
            bad: dict[int, Rejected] = {}
            rows = range(start, min(start + batch_size, len(asked)))
            for row in rows:
                try:
                    check_text(asked[row].text)
                    good.append(row)
                except InvalidTextError as error:
                    bad[row] = Rejected(row, type(error).__name__, str(error))
            batch = self._answers([asked[row] for row in good], options)
            done = dict(zip(good, batch, strict=True))
            answers += [done.get(row) or bad[row] for row in rows]
        return answers

    def _answers(self, asked: Sequence[Asked], options: Options) -> list[Classification]:
        """Answers for checked texts; each is segmented and counted once, for labels and explanation alike."""
        texts = [one.text for one in asked]
        models = list({id(model): model for model in self._by_head.values()}.values())
        matrices = {id(model): model.vectorise(texts) for model in models}
        every = {id(model): model.probabilities(matrices[id(model)]) for model in models}
        probabilities = {head: every[id(model)][head] for head, model in self._by_head.items()}
        cues = [find_cues(text) for text in texts]
        probabilities["recurrence"] = text_levels(probabilities["recurrence"], texts, self._recurrence, cues)
        vectors = {head: matrices[id(model)] for head, model in self._by_head.items()}
        ranked = {head: self._rank(head, probabilities[head], options) for head in _RANKED}
        groups = map(self._group, probabilities["category"].tolist())
        explained = {
            head: self._by_head[head].explain(vectors[head], head, [best[0].code for best in ranked[head]])
            for head in (_EXPLAINED if options.get("explain", True) else ())
        }
        return [
            self._answer(
                one,
                {head: rows[i] for head, rows in ranked.items()},
                next(groups),
                probabilities["recurrence"][i],
                cues[i],
                [WordWeight(head, *weight) for head, weights in explained.items() for weight in weights[i]],
                options,
            )
            for i, one in enumerate(asked)
        ]

    def _answer(
        self,
        asked: Asked,
        ranked: Mapping[str, tuple[Scored, ...]],
        group: Scored | None,
        levels: FloatArray,
        cues: Sequence[Cue],
        explanation: Sequence[WordWeight],
        options: Options,
    ) -> Classification:
        top, history = options.get("top", 3), options.get("history")
        category, department, intent = (ranked[head][0] for head in _RANKED)
        assisting = tuple(d for d in ranked["department"][1:3] if d.probability >= self._assisting)
        several = any(d.probability >= _WHISTLE for d in assisting)
        reasons = tuple(
            f"{title}把握不足:{ranked[head][0].probability:.2f} < {self._thresholds[head]:.2f}"
            for head, title in (("category", "类别"), ("department", "部门"))
            if ranked[head][0].probability < self._thresholds.get(head, 0.0)
        )
        past = _past(asked, history, category.code, department.code) if history is not None else None
        return Classification(
            category=category,
            categories=ranked["category"][:top],
            department=department,
            departments=ranked["department"][:top],
            assisting=assisting,
            intent=intent,
            intents=ranked["intent"][:top],
            group=group,
            handling=_decide(intent.code, department.code, several, frozenset(cue.kind for cue in cues)),
            recurrence=_recurrence(levels, cues, past),
            needs_review=bool(reasons),
            review_reasons=reasons,
            explanation=tuple(explanation),
            model=self._info,
        )

    def _rank(self, head: str, p: FloatArray, options: Options) -> list[tuple[Scored, ...]]:
        """The most probable labels of each text, as many as an answer shows or is decided by."""
        labels = self._taxonomy.heads[head]
        order = (-p).argsort(axis=1, kind="stable")[:, : max(options.get("top", 3), _DECIDING)]
        return [
            tuple(Scored(labels[i].code, labels[i].name, row[i]) for i in best)
            for row, best in zip(p.tolist(), order.tolist(), strict=True)
        ]

    def _group(self, p: Sequence[float]) -> Scored | None:
        """七有 or 五性, where it is sure. A group of one category says no more than the category."""
        parts: dict[str, list[float]] = {}
        for label, value in zip(self._taxonomy.heads["category"], p, strict=True):
            parts.setdefault(label.parent, []).append(value)
        for name, values in parts.items():
            if name and len(values) > 1 and sum(values) >= _GROUP_SURE:
                return Scored(name, name, sum(values))
        return None


def _past(asked: Asked, history: "History", category: str, department: str) -> Past:
    from jiesu_nlp.matter import read_matter  # only a caller with a history needs it

    matter = read_matter(asked.text, asked.place)
    return look_back(history, matter, asked.at or datetime.now(), category, department)


def _recurrence(levels: FloatArray, cues: Sequence[Cue], past: Past | None) -> Recurrence:
    shown = [c for c in cues if c.kind in RECURRENCE_KINDS and levels[2] >= _NO_EVIDENCE]
    evidence = [Evidence(c.kind, c.basis, c.start, c.end, c.text) for c in shown]
    if past is None:
        return Recurrence(float(levels[1] + levels[2]), float(levels[2]), int(levels.argmax()), True, tuple(evidence))
    p = with_past(levels, past)
    evidence += [
        Evidence("past", _PAST_BASIS, ticket=t.id, time=t.time.isoformat(), similarity=t.similarity)
        for t in past.tickets[:_PAST_SHOWN]
    ]
    return Recurrence(
        float(p[1] + p[2]),
        float(p[2]),
        int(p.argmax()),
        False,
        tuple(evidence),
        count=len(past.tickets),
        last_seen=max(t.time for t in past.tickets).isoformat() if past.tickets else None,
        month_count=past.month_count,
        year_count=past.year_count,
        came_back=past.came_back,
        class_rate=past.class_rate,
        again=past.again,
    )


@cache
def _default() -> Classifier:
    return Classifier.load()


@overload
def classify(text: str, **options: Unpack[Options]) -> Classification: ...
@overload
def classify(text: list[str] | tuple[str, ...], **options: Unpack[Options]) -> list[Classification | Rejected]: ...
def classify(
    text: str | list[str] | tuple[str, ...], **options: Unpack[Options]
) -> Classification | list[Classification | Rejected]:
    """Classify with the packaged default model; see `Classifier.classify`.

    >>> from jiesu_nlp import classify
    >>> classify("小区自来水管老化渗水,居民用水困难,反映多次没人管").department.code
    'water'
    """
    return _default().classify(text, **options)
