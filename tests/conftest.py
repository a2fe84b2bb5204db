"""Shared fixtures: a tiny real model, and where the real data lies."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "data" / "samples"


def install(*packages: str) -> None:
    """Install Debian packages where that may be done; the caller looks whether they are there."""
    if os.name != "posix" or os.getuid() != 0 or not shutil.which("apt-get"):
        return
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        try:
            subprocess.run(["apt-get", "-q", *command], check=False, capture_output=True, timeout=150)
        except subprocess.TimeoutExpired:
            return


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = Path(os.environ.get("JIESU_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real data is not at {folder}; set JIESU_DATA")
    return folder


@pytest.fixture(scope="session")
def small_tables() -> list[Path]:
    return [SAMPLES / f"{name}.jsonl" for name in ("water", "tax", "edu", "police")]


@pytest.fixture(scope="session")
def small_table(tmp_path_factory, small_tables):
    """The four departments as one table."""
    return _merged(tmp_path_factory, small_tables)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory, small_table):
    """A real model trained on four departments; heads as packaged."""
    from jiesu_nlp.models.tfidf import TfidfModel
    from jiesu_nlp.train import train

    folder = tmp_path_factory.mktemp("model")
    train(small_table, folder)
    return TfidfModel.load(folder)


def _merged(factory, tables) -> list[Path]:
    """One table whose rare classes are dropped, since a class of one row is refused."""
    import json
    from collections import Counter

    rows = [json.loads(line) for table in tables for line in table.read_text(encoding="utf-8").splitlines()]
    for head in ("category", "department", "intent", "recurrence"):
        counts = Counter(row[head] for row in rows)
        rows = [row for row in rows if counts[row[head]] > 1]
    path = factory.mktemp("table") / "small.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return [path]
