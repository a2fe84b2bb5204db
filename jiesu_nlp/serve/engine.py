"""The model behind the server: answers off the event loop, a bound on waiting, reload without a gap."""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from jiesu_nlp.models.store import model_folder
from jiesu_nlp.predict import Classification, Classifier, Rejected
from jiesu_nlp.serve.schemas import TicketIn
from jiesu_nlp.serve.settings import Settings
from jiesu_nlp.text import check_text

if TYPE_CHECKING:
    from jiesu_nlp.history import History

Result = TypeVar("Result")
_AT_ONCE, _SHORT = 0.003, 8000
"""Seconds that a usual text takes a model, and characters of all texts that wait, up to which they are classified where
they come in: on a thread they would wait longer for Python's lock than that."""
log = logging.getLogger("jiesu_nlp.serve")
_TURNS = 4
"""Turns of the event loop that a ticket waits for others; from its socket to its route takes two."""
_WARM_UP = "小区自来水管老化渗水,居民用水困难,反映多次没人管。" * 14
"""As long as a ticket is on the mean."""


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
        self._quick = False
        self._waiting: list[tuple[TicketIn, asyncio.Future[Classification]]] = []
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
        quick = min(_seconds(loaded, _WARM_UP) for _ in range(5)) < _AT_ONCE
        self.classifier, self._quick, self._stamp = loaded, quick, stamp
        # What is loaded is no garbage: looking for some in it, again and again, took a tenth of all time.
        gc.collect()
        gc.freeze()

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

    async def classify(self, asked: TicketIn) -> Classification:
        """One answer without a history; short tickets that come in at the same time are read together, here.

        Raises:
            InvalidTextError: the text cannot be classified. BusyError: as `run`. TimeoutError: as `run`, where a
                thread does it.
        """
        check_text(asked.text)
        if not self._quick or len(asked.text) > _SHORT:
            return (await self.run(lambda classifier: _answers(classifier, [asked])))[0]
        self._refuse_if_busy()
        if sum(len(one.text) for one, _ in self._waiting) + len(asked.text) > _SHORT:
            self._answer_waiting()
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._gather, _TURNS)
        answer: asyncio.Future[Classification] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        return await answer

    def _gather(self, turns: int) -> None:
        """Let what has come in meanwhile join, for some turns of the loop, which take no time when all is quiet."""
        if turns:
            asyncio.get_running_loop().call_soon(self._gather, turns - 1)
        else:
            self._answer_waiting()

    def _answer_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._answer(waiting)

    def _answer(self, waiting: "Sequence[tuple[TicketIn, asyncio.Future[Classification]]]") -> None:
        try:
            if self.classifier is None:
                raise BusyError(1)
            answers = _answers(self.classifier, [asked for asked, _ in waiting])
        except Exception as error:
            if len(waiting) > 1:  # one that cannot be answered is not the others' fault
                for one in waiting:
                    self._answer([one])
            elif not waiting[0][1].done():
                waiting[0][1].set_exception(error)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():  # who asked may have left
                future.set_result(answer)

    async def run(self, work: Callable[[Classifier], Result]) -> Result:
        """Do work on a thread.

        Raises:
            BusyError: too many work or wait already. TimeoutError: it took too long; it runs out unseen.
        """
        self._refuse_if_busy()
        if (classifier := self.classifier) is None:
            raise BusyError(1)
        begin, loop = time.monotonic(), asyncio.get_running_loop()
        task = self._pool.submit(work, classifier)
        self.active += 1
        task.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            result = await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(task)), self._timeout)
        except TimeoutError:
            task.cancel()  # if it still waits for a thread; one that runs cannot be stopped
            raise
        self._took += 0.1 * (time.monotonic() - begin - self._took)
        return result

    def _refuse_if_busy(self) -> None:
        if self.active >= self._bound:
            raise BusyError(max(1, round(self._took * self.active)))

    @property
    def at_work(self) -> int:
        """Requests that work or wait."""
        return self.active + len(self._waiting)

    def _done(self) -> None:
        self.active -= 1

    def close(self) -> None:
        """Finish what runs."""
        self._pool.shutdown(wait=True)
        gc.unfreeze()


def _seconds(classifier: Classifier, text: str) -> float:
    begin = time.thread_time()
    classifier.classify(text)
    return time.thread_time() - begin


def answer_all(
    classifier: Classifier, asked: Sequence[TicketIn], history: "History | None" = None
) -> list[Classification | Rejected]:
    """An answer for each ticket, each with as many ranked labels as it asks for."""
    texts, at, place = ([getattr(one, name) for one in asked] for name in ("text", "at", "place"))
    top = max(one.top for one in asked)
    answers = classifier.classify_batch(texts, top=top, history=history, at=at, place=place)
    return [a if isinstance(a, Rejected) else _cut(a, one.top) for a, one in zip(answers, asked, strict=True)]


def _answers(classifier: Classifier, asked: Sequence[TicketIn]) -> list[Classification]:
    """Answers for texts that have been found good."""
    answers = [a for a in answer_all(classifier, asked) if isinstance(a, Classification)]
    if len(answers) < len(asked):
        raise RuntimeError("a text was refused that had been found good")
    return answers


def _cut(answer: Classification, top: int) -> Classification:
    """The answer with as many ranked labels as it was asked for."""
    if len(answer.categories) <= top and len(answer.departments) <= top and len(answer.intents) <= top:
        return answer
    return replace(
        answer,
        categories=answer.categories[:top],
        departments=answer.departments[:top],
        intents=answer.intents[:top],
    )
