"""Operators' corrections: stored durably, and exported as a table that ``jiesu train`` takes."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jiesu_nlp.errors import HistoryError
from jiesu_nlp.history_tables import named_errors, set_up_sqlite, storable

LABELS = ("category", "department", "intent", "recurrence")
_metadata = sa.MetaData()
_rows = sa.Table(
    "feedback",
    _metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("stored", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    *(sa.Column(head, sa.Text) for head in LABELS),
)


class FeedbackStore:
    """One SQLite file; any number of processes may write to it."""

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        """Open the store, making it where there is none.

        Raises:
            HistoryError: it cannot be opened, or is not there and may not be made.
        """
        if not create and not Path(path).is_file():
            raise HistoryError(f"there is no feedback at {path}")
        with named_errors("the feedback cannot be opened"):
            self._engine = sa.create_engine(f"sqlite:///{Path(path).absolute()}", hide_parameters=True)
            sa.event.listen(self._engine, "connect", set_up_sqlite)
            if not create and not sa.inspect(self._engine).has_table("feedback"):
                raise HistoryError(f"{path} holds no feedback")
            with self._engine.begin() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                _metadata.create_all(connection)

    def close(self) -> None:
        """Release the connections."""
        self._engine.dispose()

    def add(self, key: str, text: str, labels: dict[str, str | None]) -> None:
        """Store a correction; when this returns, it is on the disk. The same id replaces the former."""
        values = {head: storable(value) if value else None for head, value in labels.items()}
        row = {"id": storable(key), "stored": datetime.now(UTC).isoformat(), "text": storable(text)} | values
        with named_errors("the correction was not stored"), self._engine.begin() as connection:
            connection.execute(sa.delete(_rows).where(_rows.c.id == row["id"]))
            connection.execute(sa.insert(_rows).values(row))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The corrections by time: id, text and the labels that were given."""
        with named_errors("the feedback cannot be read"), self._engine.connect() as connection:
            for row in connection.execute(sa.select(_rows).order_by(_rows.c.stored)):
                yield {"id": row.id, "text": row.text} | {h: getattr(row, h) for h in LABELS}

    def export(self, out: Path) -> int:
        """Write the corrections as jsonl, with the heads that any of them has; returns their number."""
        rows = list(self.rows())
        heads = [head for head in LABELS if any(row[head] for row in rows)]
        kept = [{name: row[name] for name in ("id", "text", *heads)} for row in rows]
        out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
        return len(rows)
