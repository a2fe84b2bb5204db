"""Files sent to be labelled: kept in a folder that every process of the server sees, gone after a while."""

import asyncio
import json
import os
import re
import shutil
import tempfile
import time
import uuid
import zipfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from jiesu_nlp.relabel import relabel
from jiesu_nlp.serve.guard import problem
from jiesu_nlp.serve.schemas import FileJob
from jiesu_nlp.serve.settings import Settings
from jiesu_nlp.serve.sheets import to_csv

_ENDINGS = (".csv", ".xlsx")
_ID = re.compile(r"[0-9a-f]{32}")
_WAITING = 8
_KEPT = 200
_CHUNK_ROWS = 200
_SILENT = 120.0
"""Seconds without a word after which a file that was being labelled counts as given up."""
_UNPACKED = 128 << 20
"""Bytes that an xlsx file may say to unpack to; what it says falsely, `sheets` bounds."""


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
        self._mine: set[Path] = set()
        self._stopping = False

    async def start(self, name: str, body: AsyncIterator[bytes]) -> FileJob:
        """Take a file in and begin to label it."""
        ending = Path(name).suffix.lower()
        if ending not in _ENDINGS:
            raise problem(422, "Not a table", "send a csv or xlsx file and give its name")
        if self._waiting >= _WAITING or sum(1 for _ in self._folder.iterdir()) >= _KEPT:
            raise problem(429, "Busy", "as many files wait or are kept as may; come again later")
        self._waiting += 1
        key = uuid.uuid4().hex
        folder = self._folder / key
        try:
            folder.mkdir(mode=0o700)
            self._mine.add(folder)
            with (folder / f"in{ending}").open("wb") as file:
                async for part in body:
                    file.write(part)
            _check_zip(folder / f"in{ending}")
            stem = re.sub(r"[^\w-]", "_", Path(name).stem)[:80] or "table"
            (folder / "name").write_text(f"{stem}-labelled{ending}", encoding="utf-8")
            job = FileJob(id=key, state="waiting")
            _save(folder, job)
            asyncio.get_running_loop().run_in_executor(self._pool, self._label, folder, ending, job)
        except BaseException:
            self._waiting -= 1
            self._mine.discard(folder)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def _label(self, folder: Path, ending: str, job: FileJob) -> None:
        source, out = folder / f"in{ending}", folder / f"out{ending}"

        def show(rows: int) -> None:
            if self._stopping:
                raise InterruptedError
            job.rows = rows
            _save(folder, job)

        try:
            job.state = "working"
            table = source
            if ending == ".xlsx":
                to_csv(source, table := folder / "in.csv")
            summary = relabel(table, out, model=self._model, chunk_rows=_CHUNK_ROWS, progress=show)
            job.state, job.rows, job.rejected = "done", summary.rows, summary.rejected
        except Exception as error:  # its message may hold the first row of a table without a header
            job.state, job.message = "failed", type(error).__name__
        finally:
            self._waiting -= 1
            self._mine.discard(folder)
            for path in folder.glob("in.*"):
                path.unlink()
            _save(folder, job)

    def status(self, key: str) -> FileJob:
        """How far a file is."""
        path = self._known(key) / "job.json"
        job = FileJob.model_validate_json(path.read_text(encoding="utf-8"))
        if job.state in ("waiting", "working") and time.time() - path.stat().st_mtime > _SILENT:
            job.state, job.message = "failed", "InterruptedError"  # the process that had it is gone
        return job

    def result(self, key: str, *, rejects: bool = False) -> tuple[Path, str]:
        """The labelled file, or the rows that could not be, and its name."""
        folder = self._known(key)
        if self.status(key).state != "done":
            raise problem(409, "Not ready", "the file is not labelled yet")
        name = (folder / "name").read_text(encoding="utf-8")
        out = folder / f"out{Path(name).suffix}"
        if not rejects:
            return out, name
        if not (kept := out.with_name(out.name + ".rejects")).is_file():
            raise problem(404, "No rejects", "every row was labelled")
        return kept, f"{Path(name).stem}-rejects.csv"

    def _known(self, key: str) -> Path:
        folder = self._folder / key
        if not _ID.fullmatch(key) or not (folder / "job.json").is_file():
            raise problem(404, "No such file", "it was never sent, or its time is over")
        return folder

    async def sweep(self) -> None:
        """Delete files whose time is over."""
        while True:
            await asyncio.sleep(min(self._keep / 4, _SILENT / 4))
            for folder in [path for path in self._folder.iterdir() if _ID.fullmatch(path.name)]:
                with suppress(OSError):  # another process may have been quicker
                    if folder in self._mine:
                        os.utime(folder)
                        if (folder / "job.json").exists():
                            os.utime(folder / "job.json")
                    elif time.time() - folder.stat().st_mtime > self._keep:
                        shutil.rmtree(folder)

    def close(self) -> None:
        """Stop after the chunk at hand, and drop those that wait, and the temporary folder."""
        self._stopping = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._own:
            shutil.rmtree(self._own, ignore_errors=True)


def _save(folder: Path, job: FileJob) -> None:
    draft = folder / "job.json.tmp"
    draft.write_text(json.dumps(job.model_dump(), ensure_ascii=False), encoding="utf-8")
    draft.replace(folder / "job.json")


def _check_zip(path: Path) -> None:
    """Refuse an xlsx file that unpacks to more than is good for the server."""
    if path.suffix != ".xlsx":
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except Exception:  # zipfile raises many types on what is no archive
        raise problem(422, "Not a table", "the file is no xlsx file") from None
    if size > _UNPACKED:
        raise problem(413, "Table too large", "save it as csv, which may be longer, or split it")
