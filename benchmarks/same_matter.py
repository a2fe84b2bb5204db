"""How well tickets on the same matter are told: pairs that readers grouped (data/readings/same_matter.csv).

    python benchmarks/same_matter.py [groups.csv]     # columns id, reader, group

The grouping of `hotspots` is run on the whole stream of one city; single pairs are judged by similarity.
"""

import argparse
import csv
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
from train_default import DATA, ROOT, rows

from jiesu_nlp.history import History, Ticket
from jiesu_nlp.hotspots import hotspots
from jiesu_nlp.matter import SAME_MATTER, read_matter
from jiesu_nlp.tables import parse_time
from jiesu_nlp.text import join_fields


def figures(said: np.ndarray, truth: np.ndarray) -> str:
    both = (said & truth).sum()
    return f"precision {both / max(said.sum(), 1):.3f}, recall {both / max(truth.sum(), 1):.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="?", type=Path, default=ROOT / "data" / "readings" / "same_matter.csv")
    arguments = parser.parse_args()
    stream = [row for row in rows(DATA / "messages.jsonl") if row["source"] == "attachment3"]
    texts = {row["id"]: join_fields(row["title"], row["body"]) for row in stream}
    history = History("sqlite://")
    history.append(Ticket(row["id"], texts[row["id"]], parse_time(row["time"])) for row in stream)
    frame = hotspots(history)
    group_of = {key: i for i, ids in enumerate(frame["ids"].to_list()) for key in ids}
    readers: dict[str, dict[str, str]] = defaultdict(dict)
    with arguments.groups.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            readers[row["reader"]][row["id"]] = row["group"]
    all_pairs = []
    for reader, group in readers.items():
        matters = {key: read_matter(texts[key]) for key in group}
        for a, b in itertools.combinations(group, 2):
            same = bool(group[a]) and group[a] == group[b]
            grouped = a in group_of and group_of[a] == group_of.get(b)
            similarity = matters[a].similarity(matters[b].features, matters[b].weights, [len(matters[b].features)])[0]
            all_pairs.append((reader, same, grouped, similarity >= SAME_MATTER))
    print(f"{len(stream)} tickets, {len(frame)} groups")
    for reader in (*readers, None):
        pairs = np.array([p[1:] for p in all_pairs if reader in (p[0], None)])
        truth, grouped, alike = pairs.T
        print(
            f"reader {reader or 'all'}: {truth.sum()} of {len(truth)} pairs the same; "
            f"hotspots {figures(grouped, truth)}; single pairs {figures(alike, truth)}"
        )


if __name__ == "__main__":
    main()
