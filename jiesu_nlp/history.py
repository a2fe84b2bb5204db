"""The history of tickets: a durable, append-only index that finds past tickets on the same matter.

One SQLite file in WAL mode by default, or PostgreSQL with the same tables. A ticket is stored with
its matter (`matter.py`) and with postings, one for each of its places and most telling words. Finding
similar tickets reads the newest postings of each, ranks by how much they share, and compares the best
of them exactly, so that its cost is bounded whatever the size of the history.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from jiesu_nlp.errors import HistoryError
from jiesu_nlp.matter import SAME_MATTER, Matter, place_feature, read_matter
from jiesu_nlp.places import place_key

FORMAT = "1"
_BATCH = 1000
_NEWEST = 400
"""Postings read for each key of a query."""
_COMPARED = 150
"""Candidates whose matter is compared exactly."""
_PLACE_TIMES = 2000
_WHY = 5

_metadata = sa.MetaData()
_meta = sa.Table("meta", _metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text))
_tickets = sa.Table(
    "tickets",
    _metadata,
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
_postings = sa.Table(
    "postings",
    _metadata,
    sa.Column("feature", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
_outcomes = sa.Table(
    "outcomes",
    _metadata,
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


class History:
    """Past tickets. One writer and many readers may use it at once, from any thread or process."""

    def __init__(self, where: str | Path, *, create: bool = True) -> None:
        """Open a history, making it where there is none.

        Args:
            where: a file name, or a URL: ``postgresql+psycopg://user@host/db``, or ``sqlite://`` for
                one in memory.
            create: ``False`` to refuse a file that is not there.

        Raises:
            HistoryError: it cannot be opened, or is of another format.
        """
        if not create and "://" not in str(where) and not Path(where).is_file():
            raise HistoryError(f"there is no history at {where}; make one with: jiesu history add TABLE --db {where}")
        url = str(where) if "://" in str(where) else f"sqlite:///{Path(where).absolute()}"
        try:
            self._engine = sa.create_engine(url)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _set_up_sqlite)
            with self._engine.begin() as connection:
                _metadata.create_all(connection)
                found = connection.execute(sa.select(_meta.c.value).where(_meta.c.key == "format")).scalar()
                if found is None:
                    connection.execute(sa.insert(_meta).values(key="format", value=FORMAT))
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise HistoryError(
                f"the history cannot be opened ({type(error).__name__}); name a file that can be written, or "
                "postgresql+psycopg://… after pip install 'jiesu_nlp[postgres]'"
            ) from None
        if found not in (None, FORMAT):
            raise HistoryError(f"the history has format {found}, this version reads {FORMAT}; append the tickets anew")
        self._rates: dict[tuple[str | None, str | None, int], float] = {}

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    def __len__(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(_tickets)).scalar_one())

    def last_time(self) -> datetime | None:
        """When the newest ticket came in."""
        with self._engine.connect() as connection:
            last = connection.execute(sa.select(sa.func.max(_tickets.c.time))).scalar()
        return None if last is None else _time(last)

    def append(self, tickets: Iterable[Ticket]) -> int:
        """Store tickets; one whose id is stored already is passed over. Returns how many were new.

        Each thousand is one transaction: when the process dies, what was committed is complete and
        the rest may simply be appended again.
        """
        rest = iter(tickets)
        return sum(self._append(batch) for batch in iter(lambda: list(islice(rest, _BATCH)), []))

    def _append(self, batch: Sequence[Ticket]) -> int:
        matters = [(t, read_matter(t.text, t.place)) for t in batch]
        with self._engine.begin() as connection:
            # Writing first takes the lock, on either database, so that writers queue here.
            connection.execute(sa.update(_meta).where(_meta.c.key == "format").values(value=FORMAT))
            known = set(connection.execute(sa.select(_tickets.c.id).where(_tickets.c.id.in_([t.id for t in batch]))).scalars())
            new = {t.id: (t, m) for t, m in reversed(matters) if t.id not in known}
            if not new:
                return 0
            last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(_tickets.c.seq), 0))).scalar_one()
            rows, postings, outcomes = [], [], []
            for seq, (ticket, matter) in enumerate(reversed(new.values()), last + 1):
                time = _seconds(ticket.time)
                rows.append(_row(seq, time, ticket, matter))
                postings += [{"feature": key, "time": time, "seq": seq} for key in matter.keys]
                if ticket.outcome and ticket.answered:
                    outcomes.append({"id": ticket.id, "answered": _seconds(ticket.answered), "outcome": ticket.outcome})
            connection.execute(sa.insert(_tickets), rows)
            postings.sort(key=lambda row: (row["feature"], row["time"]))
            if postings:
                connection.execute(sa.insert(_postings), postings)
            if outcomes:
                connection.execute(sa.insert(_outcomes), outcomes)
        return len(new)

    def answer(self, ticket_id: str, outcome: str, answered: datetime) -> None:
        """Record how a stored ticket was closed; the same answer again changes nothing.

        Raises:
            HistoryError: no such ticket.
        """
        values = {"id": ticket_id, "answered": _seconds(answered), "outcome": outcome}
        with self._engine.begin() as connection:
            connection.execute(sa.update(_meta).where(_meta.c.key == "format").values(value=FORMAT))
            if not connection.execute(sa.select(_tickets.c.seq).where(_tickets.c.id == ticket_id)).first():
                raise HistoryError(f"the history has no ticket {ticket_id!r}; append it first")
            same = (_outcomes.c.id == ticket_id) & (_outcomes.c.answered == values["answered"])
            if not connection.execute(sa.select(_outcomes.c.id).where(same)).first():
                connection.execute(sa.insert(_outcomes).values(values))

    def similar(
        self,
        text: str | Matter,
        *,
        place: str | None = None,
        before: datetime | None = None,
        window: timedelta | None = None,
        top: int | None = 10,
        at_least: float = SAME_MATTER,
    ) -> list[PastTicket]:
        """Past tickets on the same matter, most similar first.

        Args:
            place: where it is, if a column says so; places in the text are found anyway.
            before: only tickets that came in earlier than this. window: and not longer ago.
            top: how many; all that were compared when ``None``.
            at_least: least similarity, 0..1.
        """
        matter = text if isinstance(text, Matter) else read_matter(text, place)
        end = _seconds(before) if before else 2**62
        start = end - int(window.total_seconds()) if window and before else -(2**62)
        if not matter.keys:
            return []
        weight = {key: 3.0 if i < min(len(matter.places), 4) else 1.0 for i, key in enumerate(matter.keys)}
        score: Counter[int] = Counter()
        with self._engine.connect() as connection:
            bound = {"start": start, "end": end} | {f"k{i}": key for i, key in enumerate(matter.keys)}
            for seq, i in connection.execute(_candidates(len(matter.keys)), bound):
                score[seq] += weight[matter.keys[i]]
            best = [seq for seq, _ in sorted(score.items(), key=lambda item: (-item[1], -item[0]))[:_COMPARED]]
            columns = [c for c in _tickets.c if c.name != "text"]
            rows = connection.execute(sa.select(*columns).where(_tickets.c.seq.in_(best))).all()
            similarity = _compare(matter, rows)
            order = [i for i in np.argsort(-similarity, kind="stable") if similarity[i] >= at_least][:top]
            answers = self._answers(connection, [rows[i].id for i in order], end)
        return [
            PastTicket(
                rows[i].id,
                _time(rows[i].time),
                rows[i].place,
                rows[i].category,
                rows[i].department,
                *answers.get(rows[i].id, (None, None)),
                round(float(similarity[i]), 4),
                _shared(matter, np.frombuffer(rows[i].features, np.uint32)),
            )
            for i in order
        ]

    @staticmethod
    def _answers(connection: sa.Connection, ids: Sequence[str], end: int) -> dict[str, tuple[str, datetime]]:
        """The last answer of each ticket that was given before `end`."""
        chosen = sa.select(_outcomes).where(_outcomes.c.id.in_(ids), _outcomes.c.answered < end)
        rows = connection.execute(chosen.order_by(_outcomes.c.answered))
        return {row.id: (row.outcome, _time(row.answered)) for row in rows}

    def place_times(self, place: str, before: datetime) -> np.ndarray[Any, np.dtype[np.int64]]:
        """When tickets at a place came in before a time: seconds since 1970, newest first, at most 2,000."""
        where = (_postings.c.feature == place_feature(place_key(place))) & (_postings.c.time < _seconds(before))
        chosen = sa.select(_postings.c.time).where(where).order_by(_postings.c.time.desc()).limit(_PLACE_TIMES)
        with self._engine.connect() as connection:
            return np.array(connection.execute(chosen).scalars().all(), np.int64)

    def class_rate(self, category: str | None, department: str | None, before: datetime) -> float:
        """How often tickets of a class come back to a place that had one, 0..1.

        One less the share of different places among the class's tickets with a place, over the twelve
        months before the month of `before`; drawn towards 0.5 by two tickets, so 0.5 with no history.
        """
        month = before.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        key = (category, department, _seconds(month))
        if key not in self._rates:
            where = [_tickets.c.time < key[2], _tickets.c.time >= key[2] - 365 * 86400, _tickets.c.place.is_not(None)]
            where += [_tickets.c.category == category] * bool(category)
            where += [_tickets.c.department == department] * bool(department)
            count, places = sa.func.count(), sa.func.count(sa.distinct(_tickets.c.place))
            with self._engine.connect() as connection:
                n, different = connection.execute(sa.select(count, places).where(*where)).one()
            self._rates[key] = (n - different + 1) / (n + 2)
        return self._rates[key]

    def tickets(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Any]:
        """Stored rows in time order: seq, id, time (seconds), place, category, department, text and matter.

        Args:
            since, until: time bounds, the first included, the second not.
        """
        where = [_tickets.c.time >= _seconds(since)] if since else []
        where += [_tickets.c.time < _seconds(until)] if until else []
        with self._engine.connect().execution_options(yield_per=_BATCH) as connection:
            yield from connection.execute(sa.select(_tickets).where(*where).order_by(_tickets.c.time, _tickets.c.seq))


def _row(seq: int, time: int, ticket: Ticket, matter: Matter) -> dict[str, Any]:
    place = place_key(ticket.place) if ticket.place else next(iter(matter.places), None)
    return {
        "seq": seq,
        "id": ticket.id,
        "time": time,
        "place": place,
        "category": ticket.category,
        "department": ticket.department,
        "features": matter.features.tobytes(),
        "weights": matter.weights.astype(np.float16).tobytes(),
        "text": ticket.text.replace("\0", " ").encode("utf-8", "replace").decode(),
    }


def _compare(matter: Matter, rows: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    features = np.frombuffer(b"".join(row.features for row in rows), np.uint32)
    weights = np.frombuffer(b"".join(row.weights for row in rows), np.float16).astype(np.float32)
    return matter.similarity(features, weights, [len(row.features) // 4 for row in rows])


def _shared(matter: Matter, features: np.ndarray[Any, np.dtype[np.uint32]]) -> tuple[str, ...]:
    """Places and words that both name, places first, heaviest first, none inside another."""
    both = np.isin(matter.features, features)
    places = set(matter.places)
    pairs = zip(matter.weights[both].tolist(), matter.features[both].tolist(), strict=True)
    chosen: list[str] = []
    for _, feature in sorted(pairs, key=lambda pair: (matter.names.get(pair[1]) not in places, -pair[0])):
        name = matter.names.get(feature, "")
        if len(name) > 1 and not any(name in other or other in name for other in chosen):
            chosen.append(name)
    return tuple(chosen[:_WHY])


@cache
def _candidates(keys: int) -> sa.TextClause:
    """Newest postings of each key: rows of seq and the key's number."""
    one = (
        "SELECT seq, {i} AS key FROM (SELECT seq FROM postings WHERE feature = :k{i} "
        "AND time < :end AND time >= :start ORDER BY time DESC LIMIT {n}) AS s{i}"
    )
    return sa.text(" UNION ALL ".join(one.format(i=i, n=_NEWEST) for i in range(keys)))


def _set_up_sqlite(connection: Any, _: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")


def _seconds(time: datetime) -> int:
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
