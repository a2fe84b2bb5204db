"""The shape of an answer: frozen, typed, and the same on every route.

Its classes have no slots: a frozen one with slots takes twice as long to make, and orjson six times as long to write.
"""

from dataclasses import asdict, dataclass
from typing import Any

from jiesu_nlp.handling import Handling


@dataclass(frozen=True)
class Scored:
    """A label with its calibrated probability."""

    code: str
    name: str
    probability: float


@dataclass(frozen=True)
class Evidence:
    """A span of the text, or a past ticket, that says the matter recurs.

    Attributes:
        kind: repeated, unanswered, long_standing, periodic, collective, ageing; ``past`` for a ticket.
        basis: the article of the regulation that makes it matter.
        start, end, text: ``text[start:end]`` of the caller's own text; null for a past ticket.
        ticket, time, similarity: the past ticket's id, when it came in, 0..1; null for a span.
    """

    kind: str
    basis: str
    start: int | None = None
    end: int | None = None
    text: str | None = None
    ticket: str | None = None
    time: str | None = None
    similarity: float | None = None


@dataclass(frozen=True)
class Recurrence:
    """未诉先办: could the matter have been handled before this complaint?

    Attributes:
        score: P(label ≥ 1), 0..1. score_known: P(label = 2), 0..1.
        level: most probable label, 0, 1 or 2.
        is_prior: no history was given, so the text alone speaks.
        evidence: spans of the text and past tickets that say so.
        count: past tickets on the same matter within a year. last_seen: when the last came in, ISO 8601.
        month_count, year_count: 月次 and 年次, tickets on the matter in this calendar month and year, this
            one included.
        came_back: one of them had been answered, and the matter is here again.
        class_rate: how often this category and department come back to a place, 0..1.
        again: probability of another ticket about the place within 30 days.

    Without a history those after `evidence` are 0, null or false.
    """

    score: float
    score_known: float
    level: int
    is_prior: bool
    evidence: tuple[Evidence, ...]
    count: int = 0
    last_seen: str | None = None
    month_count: int = 0
    year_count: int = 0
    came_back: bool = False
    class_rate: float | None = None
    again: float | None = None


@dataclass(frozen=True)
class WordWeight:
    """A word that spoke for (positive) or against (negative) the code chosen for a head."""

    head: str
    word: str
    weight: float


@dataclass(frozen=True)
class ModelInfo:
    """Which model answered."""

    name: str
    version: str
    taxonomy_version: str


@dataclass(frozen=True)
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
        plain: dict[str, Any] = _plain(self)
        return plain


@dataclass(frozen=True)
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
    # `dataclasses.asdict` copies every string and number deeply, which takes longer than to classify a text.
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    names = getattr(type(value), "__dataclass_fields__", None)
    return {name: _plain(getattr(value, name)) for name in names} if names else value
