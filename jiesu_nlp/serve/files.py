"""Files sent to be labelled: kept in a folder that every process of the server sees, gone after a while."""

import asyncio
import json
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jiesu_nlp.errors import JiesuError
from jiesu_nlp.relabel import relabel
from jiesu_nlp.serve.guard import problem
from jiesu_nlp.serve.schemas import FileJob
from jiesu_nlp.serve.settings import Settings

_ENDINGS = (".csv", ".xlsx")
_ID = re.compile(r"[0-9a-f]{32}")
_WAITING = 8
_CHUNK_ROWS = 200


class FileJobs:
    """One file at a time in a process; a few may wait."""

    def __init__(self, settings: Settings) -> None:
        self._own = tempfile.mkdtemp(prefix="jiesu-files-") if settings.files is None else None
        self._folder = Path(self._own or settings.files or ".")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._model = settings.model
        self._keep = settings.keep_files
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._waiting = 0

    async def start(self, name: str, body: AsyncIterator[bytes]) -> FileJob:
        """Take a file in and begin to label it."""
        ending = Path(name).suffix.lower()
        if ending not in _ENDINGS:
            raise problem(422, "Not a table", "send a csv or xlsx file and give its name")
        if self._waiting >= _WAITING:
            raise problem(429, "Busy", "as many files wait as may; come again later")
        key = uuid.uuid4().hex
        folder = self._folder / key
        folder.mkdir(mode=0o700)
        try:
            with (folder / f"in{ending}").open("wb") as file:
                async for part in body:
                    file.write(part)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        stem = re.sub(r"[^\w-]", "_", Path(name).stem)[:80] or "table"
        (folder / "name").write_text(f"{stem}-labelled{ending}", encoding="utf-8")
        job = FileJob(id=key, state="waiting")
        _save(folder, job)
        self._waiting += 1
        asyncio.get_running_loop().run_in_executor(self._pool, self._label, folder, ending, job)
        return job

    def _label(self, folder: Path, ending: str, job: FileJob) -> None:
        try:
            job.state = "working"

            def show(rows: int) -> None:
                job.rows = rows
                _save(folder, job)

            source, out = folder / f"in{ending}", folder / f"out{ending}"
            summary = relabel(source, out, model=self._model, chunk_rows=_CHUNK_ROWS, progress=show)
            job.state, job.rows, job.rejected = "done", summary.rows, summary.rejected
        except JiesuError as error:
            job.state, job.message = "failed", str(error)
        except Exception as error:
            job.state, job.message = "failed", type(error).__name__
        finally:
            self._waiting -= 1
            _save(folder, job)

    def status(self, key: str) -> FileJob:
        """How far a file is."""
        return FileJob.model_validate_json((self._known(key) / "job.json").read_text(encoding="utf-8"))

    def result(self, key: str) -> tuple[Path, str]:
        """The labelled file and its name."""
        folder = self._known(key)
        if self.status(key).state != "done":
            raise problem(409, "Not ready", "the file is not labelled yet")
        name = (folder / "name").read_text(encoding="utf-8")
        return folder / f"out{Path(name).suffix}", name

    def _known(self, key: str) -> Path:
        folder = self._folder / key
        if not _ID.fullmatch(key) or not (folder / "job.json").is_file():
            raise problem(404, "No such file", "it was never sent, or its time is over")
        return folder

    async def sweep(self) -> None:
        """Delete files whose time is over."""
        while True:
            await asyncio.sleep(min(self._keep / 4, 60))
            for folder in self._folder.iterdir():
                if _ID.fullmatch(folder.name) and time.time() - folder.stat().st_mtime > self._keep:
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Finish the file at hand; drop those that wait, and the temporary folder."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)


def _save(folder: Path, job: FileJob) -> None:
    draft = folder / "job.json.tmp"
    draft.write_text(json.dumps(job.model_dump(), ensure_ascii=False), encoding="utf-8")
    draft.replace(folder / "job.json")
