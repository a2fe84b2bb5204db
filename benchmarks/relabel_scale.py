"""How fast, and in how much memory, tables of many tickets are relabelled from parquet to parquet.

    python benchmarks/relabel_scale.py --rows 1000000 --jobs 2

Rows are the real messages (JIESU_DATA) over and over, each with its number behind it. The rate is compared with
that of as many processes classifying texts that they hold in memory, measured before the job and after it.
Memory is what all processes together hold, pages that they share counted for each of them.
"""

import argparse
import os
import tempfile
import threading
import time
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import polars as pl
import psutil
from train_default import DATA, rows

from jiesu_nlp import Classifier
from jiesu_nlp.relabel import relabel
from jiesu_nlp.text import join_fields

IN_MEMORY = 10_000


def write(path: Path, number: int) -> None:
    messages = rows(DATA / "messages.jsonl")
    some = [messages[i % len(messages)] for i in range(number)]
    columns = {"id": map(str, range(number)), "title": (m["title"] for m in some)}
    body = [f"{m['body']} {i}" for i, m in enumerate(some)]
    pl.DataFrame({name: list(cells) for name, cells in columns.items()} | {"body": body}).write_parquet(path)


def in_memory(number: int) -> float:
    messages = rows(DATA / "messages.jsonl")
    texts = [join_fields(m["title"], f"{m['body']} {number}") for m in messages][:IN_MEMORY]
    classifier = Classifier.load()
    classifier.classify_batch(texts[:500], explain=False)
    begin = time.perf_counter()
    classifier.classify_batch(texts, explain=False)
    return len(texts) / (time.perf_counter() - begin)


def memory_rate(jobs: int) -> float:
    with get_context("spawn").Pool(jobs) as pool:
        return sum(pool.map(in_memory, range(jobs), chunksize=1))


class Peak(threading.Thread):
    """Looks at the memory of this process and its children a few times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mebibytes = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        here = psutil.Process()
        while not self.over.wait(0.2):
            total = 0
            for process in (here, *here.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.mebibytes = max(self.mebibytes, total / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, out = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
        writer = get_context("spawn").Process(target=write, args=(table, arguments.rows))
        writer.start()
        writer.join()
        before = memory_rate(arguments.jobs)
        peak = Peak()
        peak.start()
        begin = time.perf_counter()
        summary = relabel(table, out, jobs=arguments.jobs)
        seconds = time.perf_counter() - begin
        peak.over.set()
        after = memory_rate(arguments.jobs)
        assert summary.rows == arguments.rows == pl.scan_parquet(out).select(pl.len()).collect().item()
    rate = arguments.rows / seconds
    print("| rows | processes | tickets/s | in memory | share | peak memory MiB |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {arguments.rows:,} | {arguments.jobs} | {rate:,.0f} | {before:,.0f}, then {after:,.0f} "
        f"| {rate / mean((before, after)):.2f} | {peak.mebibytes:,.0f} |"
    )


if __name__ == "__main__":
    main()
