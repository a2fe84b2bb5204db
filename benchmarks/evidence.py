"""How well the evidence that is found agrees with what readers marked (data/readings/spans.csv).

python benchmarks/evidence.py [readings.csv] [--texts labelled.jsonl]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

from train_default import DATA, ROOT, rows

from jiesu_nlp import classify
from jiesu_nlp.cues import RECURRENCE_KINDS
from jiesu_nlp.text import join_fields

READ = {"1": 1500, "2": 1500, "3": 1500, "4": 1500}
"""Readers 1-4 were shown this many characters of a body, the others only texts that are shorter."""

Span = tuple[int, int, str]


def touched(spans: list[Span], others: list[Span]) -> list[bool]:
    return [any(a < end and start < b for a, b, _ in others) for start, end, _ in spans]


def evidence(text: str) -> list[Span]:
    """What an answer shows, so that the model's own doubt counts too."""
    spans = classify(text).recurrence.evidence
    return [(e.start, e.end, e.kind) for e in spans]


def report(name: str, marked: dict[str, list[Span]], texts: dict[str, str]) -> None:
    found = {key: evidence(texts[key]) for key in marked}
    print(f"{name}: {len(marked)} texts")
    for kind in (*RECURRENCE_KINDS, ""):
        recall = [hit for key in marked for hit in touched([s for s in marked[key] if kind in s[2]], found[key])]
        precision = [hit for key in marked for hit in touched([s for s in found[key] if kind in s[2]], marked[key])]
        shares = (f"{sum(hits)}/{len(hits)} = {sum(hits) / max(len(hits), 1):.3f}" for hits in (recall, precision))
        print(f"  {kind or 'all':<14} marked and touched {next(shares):<18} found and marked {next(shares)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readings", nargs="?", type=Path, default=ROOT / "data" / "readings" / "spans.csv")
    parser.add_argument("--texts", type=Path, default=DATA / "complaints_labelled.jsonl")
    arguments = parser.parse_args()
    texts = {row["id"]: join_fields(row.get("title"), row["body"]) for row in rows(arguments.texts)}
    marked: dict[str, dict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
    with arguments.readings.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            group = "readers 5-6, random draw" if row["reader"] in "56" else "readers 1-4, level 2 frequent"
            text = texts[row["id"]]
            texts[row["id"]] = text[: text.find("\n") + 1 + READ.get(row["reader"], len(text))]
            spans = marked[group][row["id"]]
            if row["start"]:
                spans.append((int(row["start"]), int(row["end"]), row["kind"]))
    for group, by_id in marked.items():
        report(group, by_id, texts)


if __name__ == "__main__":
    main()
