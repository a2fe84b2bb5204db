"""Batches of like length out of whatever is asked for at the same time, by one caller or by many.

Threads that are free take what waits: the oldest row, and with it rows of the same padded length. There
is no waiting for a batch to fill, so a lone request is answered at once, and under load batches form by
themselves. As a row's padded length depends on the row alone, so does its answer.
"""

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.models.wordpiece import pad

Row = Sequence[int]
Run = Callable[[NDArray[np.int64], NDArray[np.int64]], Sequence[Any]]
STEP = 16
"""Rows are padded to a multiple of this many tokens."""


def padded_length(tokens: int) -> int:
    """Length that a row of so many tokens is padded to."""
    return -(-tokens // STEP) * STEP


class Batcher:
    """Runs rows of token ids through a network, some at a time, on several threads."""

    def __init__(self, run: Run, padding: int, threads: int, tokens: int = 4096) -> None:
        """Make a batcher; threads start with the first row.

        Args:
            run: ids and mask, both of shape (n, length), to one result a row.
            tokens: most tokens of a batch, padding included.
        """
        self._run, self._padding, self._tokens, self._threads = run, padding, tokens, threads
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._process: int | None = None  # in which threads run; a fork leaves them behind
        self._waiting: OrderedDict[int, deque[tuple[Row, Future[Any]]]] = OrderedDict()
        self._changed = threading.Condition()

    def map(self, rows: Sequence[Row]) -> list[Any]:
        """A result for each row, in order."""
        futures: list[Future[Any]] = [Future() for _ in rows]
        if self._process not in (None, os.getpid()):
            self._reset()
        with self._changed:
            if self._process is None:
                self._process = os.getpid()
                for _ in range(self._threads):
                    threading.Thread(target=self._work, daemon=True, name="jiesu-encoder").start()
            for row, future in zip(rows, futures, strict=True):
                self._waiting.setdefault(padded_length(len(row)), deque()).append((row, future))
            self._changed.notify(self._threads)
        return [future.result() for future in futures]

    def close(self) -> None:
        """Let the threads end once nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            length, batch = taken
            try:
                results = self._run(*pad([row for row, _ in batch], self._padding, length))
                for (_, future), result in zip(batch, results, strict=True):
                    future.set_result(result)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)

    def _take(self) -> tuple[int, list[tuple[Row, Future[Any]]]] | None:
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            length, queue = self._waiting.popitem(last=False)
            batch = [queue.popleft() for _ in range(min(len(queue), max(1, self._tokens // length)))]
            if queue:
                self._waiting[length] = queue  # to the end of the line, so that no length waits for ever
            return length, batch
