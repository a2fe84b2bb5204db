"""The parts of an unfinished job, in a folder beside its output: each is there whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jiesu_nlp.errors import TableError

JOB = "job.json"
LOCK = "lock"


@dataclass(frozen=True)
class Part:
    """A labelled chunk: its rows, its rejects and its counts, ready to be written."""

    number: int
    rows: bytes
    rejects: bytes
    counts: dict[str, Any]


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Make the folder of parts, and let no other process work in it at the same time."""
    work.mkdir(exist_ok=True)
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    with ExitStack() as stack:
        try:
            lock = stack.enter_context((work / LOCK).open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(lock.fileno()), (work / LOCK).stat())
        except OSError:
            mine = False  # locked, or finished and removed meanwhile
        if not mine:
            raise TableError(f"{work.name}: another process is doing this job just now")
        yield


def clear(work: Path) -> None:
    """Throw away the parts of an earlier job; the lock on the folder stays."""
    (work / JOB).unlink(missing_ok=True)  # first: without it a folder half cleared is cleared again
    for path in work.iterdir():
        if path.name != LOCK:
            path.unlink()


def remove(work: Path) -> None:
    """Delete a folder of parts. Renamed first: one half deleted must not look unfinished."""
    work.replace(finished(work))
    shutil.rmtree(finished(work), ignore_errors=True)


def finished(work: Path) -> Path:
    """What a folder of parts is called while it is deleted."""
    return work.with_name(work.name + ".finished")


def write_whole(work: Path, part: Part) -> None:
    """Write a part; its counts come last, and say that it is whole."""
    for kind, content in (("rows", part.rows), ("rejects", part.rejects)):
        write_file(work / f"{part.number:08}.{kind}", content)
    write_file(work / f"{part.number:08}.counts", json.dumps(part.counts, ensure_ascii=False).encode())


def read_counts(work: Path, number: int) -> dict[str, Any]:
    """The counts of a part that is whole."""
    counts: dict[str, Any] = json.loads((work / f"{number:08}.counts").read_text(encoding="utf-8"))
    return counts


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever kills this process."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
