"""The model behind the server: answers off the event loop, a bound on waiting, reload without a gap."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from jiesu_nlp.models.store import model_folder
from jiesu_nlp.predict import Classifier
from jiesu_nlp.serve.settings import Settings

Result = TypeVar("Result")
log = logging.getLogger("jiesu_nlp.serve")


class BusyError(Exception):
    """As many requests work or wait as may; come again in `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class Engine:
    """One classifier, which may be replaced while requests run: each keeps the one that it began with."""

    def __init__(self, settings: Settings) -> None:
        self._folder = model_folder(settings.model)
        self._every = settings.reload_every
        self._bound = settings.concurrency
        self._timeout = settings.timeout
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="classify")
        self._stamp: object = None
        self._took = 0.05
        self.active = 0
        self.reloads = 0
        self.classifier: Classifier | None = None

    def load(self) -> None:
        """Load the model.

        Raises:
            ModelFormatError: the folder cannot be read.
        """
        stamp = self._current()
        loaded = Classifier.load(self._folder)
        loaded.classify("热身")  # what is read on first use is read now, and what is wrong is found
        self.classifier, self._stamp = loaded, stamp

    def _current(self) -> object:
        try:
            files = [(self._folder / name).stat() for name in ("model.json", "arrays.safetensors")]
        except OSError:
            return None
        return tuple((file.st_mtime_ns, file.st_ino, file.st_size) for file in files)

    async def watch(self) -> None:
        """Load the model anew whenever its folder has changed; keep the old one if that fails."""
        failed: object = None
        while True:
            await asyncio.sleep(self._every)
            stamp = self._current()
            if stamp in (None, self._stamp, failed):
                continue
            try:
                await asyncio.get_running_loop().run_in_executor(None, self.load)
                self.reloads += 1
                log.info("model reloaded", extra={"fields": {"model": self.name}})
            except Exception as error:  # whatever is wrong with it, the old model serves on
                failed = stamp
                log.error("model not reloaded", extra={"fields": {"error": type(error).__name__}})

    @property
    def name(self) -> str | None:
        """Name and version of the model, ``None`` before it is loaded."""
        if self.classifier is None:
            return None
        meta = self.classifier.model.meta
        return f"{meta.get('name')} {meta.get('version')}"

    async def run(self, work: Callable[[Classifier], Result]) -> Result:
        """Do work on a thread.

        Raises:
            BusyError: too many work or wait already. TimeoutError: it took too long; it runs out unseen.
        """
        if self.active >= self._bound:
            raise BusyError(max(1, round(self._took * self.active)))
        if (classifier := self.classifier) is None:
            raise BusyError(1)
        self.active += 1
        begin, loop = time.monotonic(), asyncio.get_running_loop()
        task = self._pool.submit(work, classifier)
        task.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            result = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(task)), self._timeout)
        except TimeoutError:
            task.cancel()  # if it still waits for a thread; one that runs cannot be stopped
            raise
        self._took += 0.1 * (time.monotonic() - begin - self._took)
        return result

    def _done(self) -> None:
        self.active -= 1

    def close(self) -> None:
        """Finish what runs."""
        self._pool.shutdown(wait=True)
