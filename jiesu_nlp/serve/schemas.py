"""Bodies of requests and of answers that are not a `Classification`."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

_TEXT = "小区自来水管老化渗水,居民用水困难,反映多次没人管"
_YEARS = range(1900, 2200)


def _whole(text: str) -> str:
    """Half a character, as a cut emoji leaves it, is no text."""
    text.encode()  # UnicodeEncodeError is a ValueError
    return text


def _plausible(time: datetime) -> datetime:
    if time.year not in _YEARS:
        raise ValueError("a year between 1900 and 2200")
    return time


Text = Annotated[str, AfterValidator(_whole)]
Time = Annotated[datetime, AfterValidator(_plausible)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_whole)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class TicketIn(_Body):
    """One ticket to classify. `at` without a zone is a clock time, as tables have it."""

    text: Text = Field(examples=[_TEXT])
    at: Time | None = Field(None, examples=["2026-01-31T08:30:00"])
    place: Text | None = Field(None, max_length=200, examples=["望京西园四区"])
    top: int = Field(3, ge=1, le=50)


class BatchIn(_Body):
    """Several tickets; the answer has one item for each, in order."""

    items: list[TicketIn] = Field(min_length=1)


class FeedbackIn(_Body):
    """An operator's correction of one ticket. The same `id` again replaces the former."""

    id: Id = Field(examples=["20260131-0001"])
    text: Text = Field(examples=[_TEXT])
    category: Text | None = Field(None, examples=["convenience"])
    department: Text | None = Field(None, examples=["water"])
    intent: Text | None = Field(None, examples=["complaint"])
    recurrence: Text | None = Field(None, examples=["2"])


class PastTicketIn(_Body):
    """A ticket for the history."""

    id: Id
    text: Text
    time: Time
    place: Text | None = Field(None, max_length=200)
    category: Text | None = Field(None, max_length=100)
    department: Text | None = Field(None, max_length=100)
    outcome: Text | None = Field(None, max_length=200)
    answered: Time | None = None


class HistoryIn(_Body):
    """Tickets to append; those stored already are passed over, but their answers are taken."""

    tickets: list[PastTicketIn] = Field(min_length=1)


class Stored(BaseModel):
    """How many rows were new."""

    stored: int


class Status(BaseModel):
    """``ok``, or why not."""

    status: str
    model: str | None = None


class FileJob(BaseModel):
    """A file being labelled. `state` is waiting, working, done or failed."""

    id: str
    state: str
    rows: int = 0
    rejected: int = 0
    message: str = ""


class Problem(BaseModel):
    """An error (RFC 9457). It never holds a ticket's text."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None
