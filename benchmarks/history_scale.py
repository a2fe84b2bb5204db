"""How the history scales: append rate, lookup time, memory and size, from 10,000 tickets to a million.

    python benchmarks/history_scale.py            # to 1,000,000, about a quarter of an hour
    python benchmarks/history_scale.py --to 100000 --where postgresql+psycopg://me@localhost/db

Tickets are generated: a place of 60,000 (the popular ones much more often) and one of the written
complaints of data/samples with its own sentences shuffled, two years, one an average minute.
"""

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from train_default import ROOT, rows

from jiesu_nlp.history import History, Ticket

START = datetime(2024, 1, 1, tzinfo=UTC)
STEPS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
LOOKUPS = 300
_HEADS = "望方天和金龙翠芳永安广富华春秋海云松梅竹兰玉银宝福康泰祥瑞嘉"
_TAILS = "京庄通平泽湖源城景丽怡馨雅锦绣澜岸山溪泉林园里坊阳月星辰和安"
_KINDS = [
    "家园",
    "花园",
    "小区",
    "新村",
    "苑",
    "里",
    "嘉园",
    "公寓",
    "大厦",
    "路",
    "街",
    "小学",
    "幼儿园",
    "公园",
    "市场",
    "地铁站",
]


def places(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join((rng.choice(_HEADS), rng.choice(_TAILS), rng.choice(_TAILS), rng.choice(_KINDS))) for _ in range(n)]


def tickets(n: int, first: int = 0, seed: int = 1) -> Iterator[Ticket]:
    """Generated tickets in time order; the same numbers give the same tickets."""
    written = [row for path in sorted((ROOT / "data" / "samples").glob("*.jsonl")) for row in rows(path)]
    names = places(60_000)
    for i in range(first, first + n):
        rng = random.Random(seed * 10_000_019 + i)
        row = written[int(rng.random() ** 1.5 * len(written))]
        sentences = [s for s in row["body"].replace("!", "。").split("。") if s]
        rng.shuffle(sentences)
        place = names[int(rng.random() ** 3 * len(names))]
        text = f"{place}{row.get('title') or ''}\n" + "。".join(sentences) + "。"
        yield Ticket(str(i), text, START + timedelta(seconds=63 * i), None, row["category"], row["department"])


def memory() -> float:
    """Peak resident memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=int, default=STEPS[-1])
    parser.add_argument("--where", help="file or URL; a temporary file by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = arguments.where or str(Path(folder) / "history.db")
        history = History(where)
        sample = list(tickets(2000))
        print(
            f"{np.mean([len(t.text) for t in sample]):.0f} characters a ticket on average; {arguments.jobs} processes"
        )
        print(f"{'tickets':>9} {'appended/s':>10} {'p50 ms':>7} {'p95 ms':>7} {'found':>6} {'MiB':>6} {'file MiB':>8}")
        done = 0
        for step in [s for s in STEPS if s <= arguments.to]:
            begin = time.perf_counter()
            history.append(tickets(step - done, done), jobs=arguments.jobs)
            rate, done = (step - done) / (time.perf_counter() - begin), step
            took, found = [], []
            for ticket in tickets(LOOKUPS, done, seed=2):
                begin = time.perf_counter()
                found.append(len(history.similar(ticket.text, before=ticket.time)))
                took.append(1000 * (time.perf_counter() - begin))
            size = sum(f.stat().st_size for f in Path(folder).iterdir()) / 2**20
            p50, p95 = np.percentile(took, [50, 95])
            print(
                f"{done:>9,} {rate:>10.0f} {p50:>7.1f} {p95:>7.1f} {np.mean(found):>6.1f} {memory():>6.0f} {size:>8.0f}"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
