"""Train the packaged default model, or a variant of it, and print its out-of-fold figures.

    python benchmarks/train_default.py jiesu_nlp/default_model
    python benchmarks/train_default.py /tmp/model --without written

The real complaints are read from JIESU_DATA (default ../shared/data) and never copied: the model
keeps no text, and a vocabulary entry occurs in at least three different tickets.
"""

import argparse
import csv
import json
import os
from pathlib import Path

from jiesu_nlp.models.fit_tfidf import FitConfig
from jiesu_nlp.text import join_fields
from jiesu_nlp.train import Examples, train

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("JIESU_DATA", ROOT.parent / "shared" / "data"))
HEADS = ("category", "department", "intent", "recurrence")
LETTER_WEIGHT = 0.3


def rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def corrections() -> dict[str, dict[str, str]]:
    with (ROOT / "data" / "corrections.csv").open(encoding="utf-8", newline="") as file:
        return {r["id"]: {h: r[h] for h in HEADS if r[h]} for r in csv.DictReader(file)}


def add(examples: Examples, source: str, row: dict, labels: dict, weight: float = 1.0) -> None:
    examples.ids.append(row["id"])
    examples.texts.append(join_fields(row["title"], row["body"]))
    examples.weight.append(weight)
    examples.source.append(source)
    for head in HEADS:
        value = labels.get(head)
        examples.labels.setdefault(head, []).append(None if value is None else str(value))


def load(without: set[str] = frozenset()) -> Examples:
    """All training sources, each of which can be left out by name."""
    examples = Examples()
    corrected = {} if "corrections" in without else corrections()
    for row in rows(DATA / "complaints_labelled.jsonl"):
        add(examples, "complaints", row, row | corrected.get(row["id"], {}))
    if "written" not in without:
        for path in sorted((ROOT / "data" / "samples").glob("*.jsonl")):
            for row in rows(path):
                add(examples, "written", row, row)
    if "letters" not in without:
        for row in rows(DATA / "beijing_letters.jsonl"):
            labels = {"category": "convenience", "department": row["department"]}
            labels["intent"] = "suggest" if row["type"] == "建议" else "consult"
            add(examples, "letters", row, labels, LETTER_WEIGHT)
    return examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--without", action="append", default=[], choices=["written", "letters", "corrections"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--max-features", type=int, default=FitConfig.max_features)
    arguments = parser.parse_args()
    examples = load(set(arguments.without))
    config = FitConfig(max_features=arguments.max_features)
    report = train(
        examples, arguments.out, name="default", config=config, jobs=arguments.jobs, progress=print, model_version="1.0"
    )
    for warning in report.warnings:
        print("warning:", warning)
    print(f"{report.rows} rows, {report.groups} near-copy groups")
    for source, metrics in report.by_source.items():
        for head, figures in metrics.items():
            print(f"{source:<10} {head:<10} " + " ".join(f"{k} {v:.4f}" for k, v in figures.items()))


if __name__ == "__main__":
    main()
