"""The history of tickets: a durable, append-only index that finds past tickets on the same matter.

One SQLite file in WAL mode by default, or PostgreSQL with the same tables. A ticket is stored with
its matter (`matter.py`) and with postings, one for each of its places and most telling words. Finding
similar tickets reads the newest postings of each, ranks by how much they share, and compares the best
of them exactly, so that its cost is bounded whatever the size of the history.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from jiesu_nlp import history_tables as tables
from jiesu_nlp.errors import HistoryError
from jiesu_nlp.history_tables import FORMAT, PastTicket, Ticket, to_seconds, to_time
from jiesu_nlp.matter import (
    KEY_PLACES,
    SAME_MATTER,
    Matter,
    place_feature,
    read_matter,
    shared_names,
    shown_names,
)
from jiesu_nlp.parallel import map_ahead
from jiesu_nlp.times import month_start

__all__ = ["History", "PastTicket", "Ticket"]

_BATCH = 1000
_COMPARED = 150
"""Candidates whose matter is compared exactly."""
_PLACE_TIMES = 2000
_RATES = 1000


class History:
    """Past tickets. One writer and many readers may use it at once, from any thread or process."""

    _finalizer: "weakref.finalize[..., History] | None" = None

    def __init__(self, where: str | Path, *, create: bool = True) -> None:
        """Open a history, making it where there is none.

        Args:
            where: a file name, or a URL: ``postgresql+psycopg://user@host/db``, or ``sqlite://`` for
                one that is gone when it is closed.
            create: ``False`` to refuse one that is not there.

        Raises:
            HistoryError: it cannot be opened, or is of another format.
        """
        url = str(where) if "://" in str(where) else f"sqlite:///{Path(where).absolute()}"
        if url == "sqlite://":  # one in memory would be another one in each thread
            folder = tempfile.mkdtemp(prefix="jiesu-")
            self._finalizer = weakref.finalize(self, shutil.rmtree, folder, True)
            url = f"sqlite:///{folder}/history.db"
        try:
            known = sa.make_url(url)
        except (sa.exc.ArgumentError, ValueError):  # it is not quoted, for it may hold a password
            raise HistoryError("the history's URL cannot be read; write postgresql+psycopg://user@host/name") from None
        if not create and known.get_backend_name() == "sqlite" and not Path(known.database or "").is_file():
            raise HistoryError(f"there is no history at {where}; make one with: jiesu history add TABLE --db {where}")
        self._rates: dict[tuple[str | None, str | None, int, int], float] = {}
        with tables.named_errors(
            "the history cannot be opened; name a file that can be written, or postgresql+psycopg://…"
        ):
            # A statement's parameters hold a ticket's text, and stay out of messages.
            self._engine = sa.create_engine(known, hide_parameters=True)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", tables.set_up_sqlite)
            if not create and not sa.inspect(self._engine).has_table("postings"):
                shown = known.set(query={}).render_as_string(hide_password=True)
                raise HistoryError(f"{shown} is not a history; make one with: jiesu history add TABLE --db FILE")
            try:
                found = self._create()
            except (sa.exc.ProgrammingError, sa.exc.IntegrityError):  # another process made the tables just now
                found = self._create()
        if found != FORMAT:
            raise HistoryError(f"the history has format {found}, this version reads {FORMAT}; append the tickets anew")

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with tables.named_errors("the history cannot be read"), self._engine.connect() as connection:
            yield connection

    def _create(self) -> str:
        """Make the tables where there are none; the format they have."""
        format_row = sa.select(tables.meta.c.value).where(tables.meta.c.key == "format")
        with self._engine.begin() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # processes that open it together take turns
            tables.metadata.create_all(connection)
            if (found := connection.execute(format_row).scalar()) is None:
                connection.execute(sa.insert(tables.meta).values(key="format", value=FORMAT))
        return found or FORMAT

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()
        if self._finalizer:
            self._finalizer()

    def __len__(self) -> int:
        with self._reading() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(tables.tickets)).scalar_one())

    def last_time(self) -> datetime | None:
        """When the newest ticket came in."""
        with self._reading() as connection:
            last = connection.execute(sa.select(sa.func.max(tables.tickets.c.time))).scalar()
        return None if last is None else to_time(last)

    def append(self, tickets: Iterable[Ticket], *, jobs: int = 1) -> int:
        """Store tickets; of one whose id is stored already only a new answer is. Returns how many were new.

        Each thousand is one transaction: when the process dies, what was committed is complete and
        the rest may simply be appended again.

        Args:
            jobs: processes that read texts while this one writes; worth it from some ten thousand.
        """
        rest = iter(tickets)
        batches = iter(lambda: list(islice(rest, _BATCH)), [])
        return sum(map(self._store, map_ahead(tables.read_tickets, batches, jobs)))

    @contextmanager
    def _writing(self, failed: str) -> Iterator[sa.Connection]:
        """A transaction. Writing first takes the lock, on either database, so that writers queue here."""
        with tables.named_errors(failed), self._engine.begin() as connection:
            connection.execute(sa.update(tables.meta).where(tables.meta.c.key == "format").values(value=FORMAT))
            yield connection

    def _store(self, read: Sequence[tables.Read]) -> int:
        with self._writing("the tickets were not stored") as connection:
            stored = sa.select(tables.tickets.c.id).where(tables.tickets.c.id.in_([one.id for one in read]))
            known = set(connection.execute(stored).scalars())
            new = {one.id: one for one in reversed(read) if one.id not in known}
            last = connection.execute(sa.select(sa.func.coalesce(sa.func.max(tables.tickets.c.seq), 0))).scalar_one()
            rows, postings = [], []
            for seq, one in enumerate(reversed(new.values()), last + 1):
                rows.append({"seq": seq} | one.row)
                postings += [{"feature": key, "time": one.row["time"], "seq": seq} for key in one.keys]
            postings.sort(key=lambda row: (row["feature"], row["time"]))
            for table, values in ((tables.tickets, rows), (tables.postings, postings)):
                if values:
                    connection.execute(sa.insert(table), values)
            # A ticket that comes again with an answer is how a later export tells of it.
            self._add_answers(connection, [outcome for one in read for outcome in one.outcome])
        return len(new)

    @staticmethod
    def _add_answers(connection: sa.Connection, answers: Sequence[Mapping[str, Any]]) -> None:
        """Store answers that are not stored yet; of two at one time, the first stays."""
        ids = [answer["id"] for answer in answers]
        stored = connection.execute(sa.select(tables.outcomes).where(tables.outcomes.c.id.in_(ids)))
        known = {(row.id, row.answered) for row in stored}
        new = {(a["id"], a["answered"]): a for a in reversed(answers) if (a["id"], a["answered"]) not in known}
        if new:
            connection.execute(sa.insert(tables.outcomes), list(new.values()))

    def answer(self, ticket_id: str, outcome: str, answered: datetime) -> None:
        """Record how a stored ticket was closed; the same answer again changes nothing.

        Raises:
            HistoryError: no such ticket.
        """
        key = tables.storable(ticket_id)
        with self._writing("the answer was not stored") as connection:
            if not connection.execute(sa.select(tables.tickets.c.seq).where(tables.tickets.c.id == key)).first():
                raise HistoryError(f"the history has no ticket {ticket_id!r}; append it first")
            values = {"id": key, "answered": to_seconds(answered), "outcome": tables.storable(outcome)}
            self._add_answers(connection, [values])

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
        end = to_seconds(before) if before else 2**62
        now = to_seconds(before or datetime.now())  # tables hold wall-clock times
        start = now - int(window.total_seconds()) if window else -(2**62)
        if not matter.keys:
            return []
        row = tables.tickets.c
        columns = [row.id, row.time, row.place, row.category, row.department, row.features, row.weights]
        with self._reading() as connection:
            bound = {"start": start, "end": end} | {f"k{i}": key for i, key in enumerate(matter.keys)}
            postings = connection.execute(tables.candidates(len(matter.keys)), bound).all()
            # Ties go to the newest ticket, on either database.
            chosen = sa.select(*columns).where(row.seq.in_(_most_shared(postings, matter))).order_by(row.seq.desc())
            rows = connection.execute(chosen).all()
            stored = tables.stored_matters([ticket.features for ticket in rows], [ticket.weights for ticket in rows])
            similarity = matter.similarity(*stored)
            order = [i for i in np.argsort(-similarity, kind="stable").tolist() if similarity[i] >= at_least][:top]
            answers = self._answers(connection, [rows[i].id for i in order], end)
        telling = shown_names(matter)
        found = []
        for i in order:
            ticket = rows[i]
            known = (ticket.id, to_time(ticket.time), ticket.place, ticket.category, ticket.department)
            outcome, answered = answers.get(ticket.id, (None, None))
            shared = shared_names(telling, frozenset(np.frombuffer(ticket.features, np.uint32).tolist()))
            found.append(PastTicket(*known, outcome, answered, round(float(similarity[i]), 4), shared))
        return found

    @staticmethod
    def _answers(connection: sa.Connection, ids: Sequence[str], end: int) -> dict[str, tuple[str, datetime]]:
        """The last answer of each ticket that was given before `end`."""
        chosen = sa.select(tables.outcomes).where(tables.outcomes.c.id.in_(ids), tables.outcomes.c.answered < end)
        rows = connection.execute(chosen.order_by(tables.outcomes.c.answered))
        return {row.id: (row.outcome, to_time(row.answered)) for row in rows}

    def place_times(self, place: str, before: datetime) -> np.ndarray[Any, np.dtype[np.int64]]:
        """When tickets at a place came in before a time: seconds since 1970, newest first, at most 2,000.

        Args:
            place: a key, as `Matter.places` holds them.
        """
        at = tables.postings.c
        where = (at.feature == place_feature(place)) & (at.time < to_seconds(before))
        chosen = sa.select(at.time).where(where).order_by(at.time.desc()).limit(_PLACE_TIMES)
        with self._reading() as connection:
            return np.array(connection.execute(chosen).scalars().all(), np.int64)

    def class_rate(self, category: str | None, department: str | None, before: datetime) -> float:
        """How often tickets of a class come back to a place that had one, 0..1.

        One less the share of different places among the class's tickets with a place, over the twelve
        months before the month of `before`; drawn towards 0.5 by two tickets, so 0.5 with no history.
        """
        month = month_start(before)
        row = tables.tickets.c
        with self._reading() as connection:
            size = connection.execute(sa.select(sa.func.coalesce(sa.func.max(row.seq), 0))).scalar_one()
            key = (category, department, to_seconds(month), size)
            rate = self._rates.get(key)
            if rate is None:
                if len(self._rates) > _RATES:
                    self._rates.clear()
                where = [row.time < key[2], row.time >= key[2] - 365 * 86400, row.place.is_not(None)]
                where += [row.category == category] * bool(category) + [row.department == department] * bool(department)
                count, places = sa.func.count(), sa.func.count(sa.distinct(row.place))
                n, different = connection.execute(sa.select(count, places).where(*where)).one()
                self._rates[key] = rate = (n - different + 1) / (n + 2)
        return rate

    def tickets(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Any]:
        """Stored rows in time order: seq, id, time (seconds), place, category, department, text and matter.

        Args:
            since, until: time bounds, the first included, the second not.
        """
        row = tables.tickets.c
        where = [row.time >= to_seconds(since)] if since else []
        where += [row.time < to_seconds(until)] if until else []
        chosen = sa.select(tables.tickets).where(*where).order_by(row.time, row.seq)
        with self._reading() as connection:
            yield from connection.execution_options(yield_per=_BATCH).execute(chosen)


def _most_shared(postings: Sequence[Any], matter: Matter) -> list[int]:
    """Numbers of the tickets that share most with a matter; a place counts as much as three words."""
    if not postings:
        return []
    seq, key = np.fromiter(chain.from_iterable(postings), np.int64).reshape(-1, 2).T
    weight = np.where(np.arange(len(matter.keys)) < min(len(matter.places), KEY_PLACES), 3.0, 1.0)
    tickets, of = np.unique(seq, return_inverse=True)
    score = np.bincount(of, weights=weight[key])
    best: list[int] = tickets[np.lexsort((-tickets, -score))[:_COMPARED]].tolist()
    return best
