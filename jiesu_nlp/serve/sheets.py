"""An xlsx file that a stranger sent, read in a process of its own, whose memory and time have an end.

A file of some kilobytes can hold a text once and name it in a million cells, and whoever reads it needs the memory
for all of them.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from jiesu_nlp.errors import TableError
from jiesu_nlp.streams import columns_of, read_chunks, write_part

_MEMORY = 3 << 29
"""Bytes of address space."""
_SECONDS = 120
_ROWS = 1000


def to_csv(source: Path, out: Path, memory: int = _MEMORY) -> None:
    """Write the first sheet of an xlsx file as csv.

    Raises:
        TableError: it cannot be read, or not within the bounds.
    """
    command = [sys.executable, "-m", __name__, str(source), str(out), str(memory)]
    threads = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(command, env=os.environ | threads, capture_output=True, timeout=_SECONDS, check=False)
        if done.returncode == 0:
            return
    raise TableError("the sheet cannot be read, or takes too much memory or time; save it as csv, or split it")


def _convert(source: Path, out: Path, memory: int) -> None:
    with suppress(ImportError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    columns = columns_of([source])
    with out.open("wb") as file:
        file.write(write_part([dict(zip(columns, columns, strict=True))], columns, ".csv"))
        for chunk in read_chunks([source], _ROWS):
            file.write(write_part(chunk.rows, columns, ".csv"))


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
