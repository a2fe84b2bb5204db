"""The tables of a history, the same on SQLite and PostgreSQL, and what stands in their rows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from jiesu_nlp.errors import HistoryError
from jiesu_nlp.matter import read_matter
from jiesu_nlp.places import own_place
from jiesu_nlp.text import MAX_CHARS
from jiesu_nlp.times import as_utc

FORMAT = "1"
NEWEST = 400
"""Postings read for each key of a query."""

metadata = sa.MetaData()
meta = sa.Table("meta", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text))
tickets = sa.Table(
    "tickets",
    metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("time", sa.BigInteger, nullable=False, index=True),
    sa.Column("place", sa.Text),
    sa.Column("category", sa.Text),
    sa.Column("department", sa.Text),
    sa.Column("features", sa.LargeBinary, nullable=False),
    sa.Column("weights", sa.LargeBinary, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
postings = sa.Table(
    "postings",
    metadata,
    sa.Column("feature", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("answered", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("outcome", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket as it is stored.

    Attributes:
        time: when it came in; without a zone it is read as UTC.
        place: the place that the table names; places are found in the text too.
        outcome, answered: how it was closed, and when; both or neither.
    """

    id: str
    text: str
    time: datetime
    place: str | None = None
    category: str | None = None
    department: str | None = None
    outcome: str | None = None
    answered: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be stored.

        Raises:
            HistoryError: a field of another type, or a text over `MAX_CHARS`; never quotes the text.
        """
        for name in ("id", "text", "place", "category", "department", "outcome"):
            if not isinstance(value := getattr(self, name), str) and (value is not None or name in ("id", "text")):
                raise HistoryError(f"a ticket's {name} must be a string, not {type(value).__name__}")
        for name in ("time", "answered"):
            if not isinstance(value := getattr(self, name), datetime) and (value is not None or name == "time"):
                raise HistoryError(f"a ticket's {name} must be a datetime, not {type(value).__name__}")
        if len(self.text) > MAX_CHARS:
            raise HistoryError(f"a ticket's text has {len(self.text)} characters; cut it to at most {MAX_CHARS}")


@dataclass(frozen=True, slots=True)
class PastTicket:
    """A past ticket on the same matter.

    Attributes:
        outcome, answered: the last answer that was known at the time of the query.
        similarity: 0..1. shared: places and words that both name, most telling first.
    """

    id: str
    time: datetime
    place: str | None
    category: str | None
    department: str | None
    outcome: str | None
    answered: datetime | None
    similarity: float
    shared: tuple[str, ...]


class Read(NamedTuple):
    """A ticket ready to be stored: its row but for the number, the keys of its postings, its answer."""

    id: str
    row: dict[str, Any]
    keys: tuple[int, ...]
    outcome: list[dict[str, Any]]


def read_tickets(batch: Sequence[Ticket]) -> list[Read]:
    """Tickets made ready to be stored."""
    return [_read_one(ticket) for ticket in batch]


def _read_one(ticket: Ticket) -> Read:
    matter = read_matter(ticket.text, ticket.place, asks=False)
    row = {
        "id": storable(ticket.id),
        "time": to_seconds(ticket.time),
        "place": storable(own_place(ticket.place) or next(iter(matter.places), "")) or None,
        "category": storable(ticket.category) if ticket.category else None,
        "department": storable(ticket.department) if ticket.department else None,
        "features": matter.features.tobytes(),
        "weights": matter.weights.astype(np.float16).tobytes(),
        "text": storable(ticket.text),
    }
    outcome = []
    if ticket.outcome and ticket.answered:
        outcome = [
            {
                "id": row["id"],
                "answered": to_seconds(ticket.answered),
                "outcome": storable(ticket.outcome),
            }
        ]
    return Read(str(row["id"]), row, matter.keys, outcome)


def stored_matters(
    features: Sequence[bytes], weights: Sequence[bytes]
) -> tuple[NDArray[np.uint32], NDArray[np.float32], list[int]]:
    """Matters of rows as they stand in the tables: their arrays one behind the other, and how long each is."""
    known = np.frombuffer(b"".join(features), np.uint32)
    weighed = np.frombuffer(b"".join(weights), np.float16).astype(np.float32)
    return known, weighed, [len(row) // known.itemsize for row in features]


@cache
def candidates(keys: int) -> sa.TextClause:
    """Newest postings of each key: rows of seq and the key's number."""
    one = (
        "SELECT seq, {i} AS key FROM (SELECT seq FROM postings WHERE feature = :k{i} "
        "AND time < :end AND time >= :start ORDER BY time DESC LIMIT {n}) AS s{i}"
    )
    return sa.text(" UNION ALL ".join(one.format(i=i, n=NEWEST) for i in range(keys)))


def storable(text: str) -> str:
    """A string that every database takes: NUL becomes a space, a lone surrogate a question mark."""
    return text.replace("\0", " ").encode("utf-8", "replace").decode()


def set_up_sqlite(connection: Any, _: object) -> None:
    """Readers do not wait for the writer (WAL), and what is committed is on the disk."""
    for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")


def to_seconds(time: datetime) -> int:
    """Seconds since 1970; a time without a zone is UTC."""
    return int(as_utc(time).timestamp())


def to_time(seconds: int) -> datetime:
    """The time, in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@contextmanager
def named_errors(what: str) -> Iterator[None]:
    """A database's error as ours, by its kind: its own message may hold a ticket's text."""
    try:
        yield
    except ImportError:
        raise HistoryError(f"{what} (pip install 'jiesu_nlp[postgres]')") from None
    except sa.exc.SQLAlchemyError as error:
        raise HistoryError(f"{what} ({type(error).__name__})") from None
