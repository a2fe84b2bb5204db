"""Batches of one length out of whatever is asked for at the same time, by one caller or by many.

Threads that are free take what waits: the oldest row, and with it rows of the same length. Nothing is
padded, and there is no waiting for a batch to fill: a lone request is answered at once, and under load
batches form by themselves.
"""

import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = Sequence[int]
Run = Callable[[NDArray[np.int64]], Iterable[Any]]


class Batcher:
    """Runs rows of token ids through a network, some at a time, on several threads."""

    def __init__(self, run: Run, threads: int, tokens: int = 4096) -> None:
        """Make a batcher; threads start with the first row.

        Args:
            run: ids of shape (n, length) to one result a row.
            tokens: most tokens of a batch.
        """
        self._run, self._tokens, self._threads = run, tokens, threads
        self._closed = False
        self._reset()
        if hasattr(os, "register_at_fork"):  # a fork leaves the threads behind
            this = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: this() and this()._reset())  # type: ignore[union-attr]

    def _reset(self) -> None:
        self._started = False
        self._waiting: OrderedDict[int, deque[tuple[Row, Future[Any]]]] = OrderedDict()
        self._changed = threading.Condition()

    def map(self, rows: Sequence[Row]) -> list[Any]:
        """A result for each row, in order."""
        futures: list[Future[Any]] = [Future() for _ in rows]
        with self._changed:
            if not self._started:
                self._started = True
                for _ in range(self._threads):
                    threading.Thread(target=self._work, daemon=True, name="jiesu-encoder").start()
            for row, future in zip(rows, futures, strict=True):
                self._waiting.setdefault(len(row), deque()).append((row, future))
            self._changed.notify(self._threads)
        return [future.result() for future in futures]

    def close(self) -> None:
        """Let the threads end once nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            try:
                results = self._run(np.array([row for row, _ in taken], np.int64))
                for (_, future), result in zip(taken, results, strict=True):
                    future.set_result(result)
            except Exception as error:
                for _, future in taken:
                    if not future.done():
                        future.set_exception(error)

    def _take(self) -> list[tuple[Row, Future[Any]]] | None:
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            length, queue = self._waiting.popitem(last=False)
            batch = [queue.popleft() for _ in range(min(len(queue), max(1, self._tokens // max(length, 1))))]
            if queue:
                self._waiting[length] = queue  # to the end of the line, so that no length waits for ever
            return batch
