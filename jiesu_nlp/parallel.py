"""The same function over many items on several processes, in order, without running ahead."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import cache
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
    # joblib's own loop either waits for all that it handed out or reads on without end; its executor, unlike
    # Python's, works from a script without a main guard.
    from joblib.externals.loky import ProcessPoolExecutor

    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    pool = ProcessPoolExecutor(jobs, env={"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads})
    waiting: deque[Future[Result]] = deque()
    rest, wrong = iter(items), None
    try:
        while wrong is None:
            try:
                waiting.append(pool.submit(_watched, function, next(rest)))
            except StopIteration:
                break
            except Exception as error:  # of the items: what was begun before is finished first
                wrong = error
            if len(waiting) >= _AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if wrong is not None:
            raise wrong
    except BaseException:
        pool.shutdown(kill_workers=True)
        raise
    pool.shutdown()


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
