"""Bodies of requests and of answers that are not a `Classification`."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_TEXT = "小区自来水管老化渗水,居民用水困难,反映多次没人管"
Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class TicketIn(_Body):
    """One ticket to classify. `at` without a zone is a clock time, as tables have it."""

    text: str = Field(examples=[_TEXT])
    at: datetime | None = Field(None, examples=["2026-01-31T08:30:00"])
    place: str | None = Field(None, max_length=200, examples=["望京西园四区"])
    top: int = Field(3, ge=1, le=50)


class BatchIn(_Body):
    """Several tickets; the answer has one item for each, in order."""

    items: list[TicketIn] = Field(min_length=1)


class FeedbackIn(_Body):
    """An operator's correction of one ticket. The same `id` again replaces the former."""

    id: Id = Field(examples=["20260131-0001"])
    text: str = Field(examples=[_TEXT])
    category: str | None = Field(None, examples=["convenience"])
    department: str | None = Field(None, examples=["water"])
    intent: str | None = Field(None, examples=["complaint"])
    recurrence: str | None = Field(None, examples=["2"])


class PastTicketIn(_Body):
    """A ticket for the history."""

    id: Id
    text: str
    time: datetime
    place: str | None = Field(None, max_length=200)
    category: str | None = Field(None, max_length=100)
    department: str | None = Field(None, max_length=100)
    outcome: str | None = Field(None, max_length=200)
    answered: datetime | None = None


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
