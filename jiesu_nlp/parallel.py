"""The same function over many items on several processes, in order, without running ahead."""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 4


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], jobs: int = 1) -> Iterator[Result]:
    """Results in the order of `items`, of which at most 4 a process are held at a time.

    Args:
        function: importable by name, for it runs in other processes.
    """
    if jobs == 1:
        yield from map(function, items)
        return
    from joblib import Parallel, delayed

    rest = iter(items)
    with Parallel(jobs, return_as="generator") as pool:
        # Some at a time: joblib would read on without end while the caller lags behind.
        while some := list(islice(rest, _AHEAD * jobs)):
            yield from pool(delayed(_watched)(function, item) for item in some)


def _watched(function: Callable[[Item], Result], item: Item) -> Result:
    """Work in another process, which ends with the one that it works for, however that one ends."""
    _watch()
    return function(item)


@cache
def _watch() -> None:
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()
