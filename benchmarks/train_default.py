"""Train the packaged default model, or a variant of it, and print its out-of-fold figures.

    python benchmarks/train_default.py jiesu_nlp/default_model
    python benchmarks/train_default.py /tmp/model --without written

The real complaints are read from JIESU_DATA (default ../shared/data) and never copied: the model
keeps no text, and a vocabulary entry occurs in at least three different tickets.
"""

import argparse
import csv
import gzip
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jiesu_nlp.models.fit_tfidf import FitConfig
from jiesu_nlp.taxonomy import Taxonomy, packaged_table
from jiesu_nlp.text import join_fields
from jiesu_nlp.train import Examples, train

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("JIESU_DATA", ROOT.parent / "shared" / "data"))
HEADS = ("category", "department", "intent", "recurrence")
LETTER_WEIGHT = 0.3  # all about buses: enough to learn the wording, not to make every suggestion one
WRITTEN_WEIGHT = 2.0
DUTY_WEIGHT = 0.2
DUTIES_EACH = 150
DEFINITION_WEIGHT = 0.5
CROSSWALK_WEIGHT = {"high": 0.7, "medium": 0.35, "low": 0.1}


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
                add(examples, "written", row, row, WRITTEN_WEIGHT)
    if "letters" not in without:
        for row in rows(DATA / "beijing_letters.jsonl"):
            labels = {"category": "convenience", "department": row["department"]}
            labels["intent"] = "suggest" if row["type"] == "建议" else "consult"
            add(examples, "letters", row, labels, LETTER_WEIGHT)
    if "taxonomy" not in without:
        for number, (text, labels, weight) in enumerate(taxonomy_texts()):
            add(examples, "taxonomy", {"id": f"T-{number}", "title": None, "body": text}, labels, weight)
    if "regulations" not in without:
        for number, (text, code) in enumerate(duties()):
            row = {"id": f"R-{number}", "title": None, "body": text}
            add(examples, "regulations", row, {"department": code}, DUTY_WEIGHT)
    return examples


def duties() -> Iterator[tuple[str, str]]:
    """Sentences of Beijing's regulations that name exactly one department, without its name."""
    rows = packaged_table("aliases", "head", "alias", "code", "note")
    names = {row["alias"]: row["code"] for row in rows if row["note"] == "法规用语"}
    pattern = re.compile("|".join(sorted(names, key=len, reverse=True)))
    seen: Counter[str] = Counter()
    with gzip.open(DATA / "regulations.jsonl.gz", "rt", encoding="utf-8") as file:
        for law in map(json.loads, file):
            for sentence in re.split(r"\n|(?<=。)", law["text"]) if law["place"] == "北京" else ():
                codes = {names[name] for name in pattern.findall(sentence)}
                if len(codes) == 1 and 25 <= len(sentence) <= 400:
                    (code,) = codes
                    seen[code] += 1
                    if seen[code] <= DUTIES_EACH:
                        yield law["title"][:30] + "\n" + pattern.sub("", sentence), code


def taxonomy_texts() -> Iterator[tuple[str, dict[str, str], float]]:
    """What the label files say belongs to a label, as weak examples."""
    for head in ("category", "department"):
        for label in Taxonomy.load().heads[head]:
            for text in (label.definition, *label.includes.split(";")):
                yield text, {head: label.code}, DEFINITION_WEIGHT
    for row in packaged_table("crosswalk", "level1", "level2", "level3", "category", "department", "confidence"):
        text = " ".join(level for level in (row["level2"], row["level3"]) if level != "其他") or row["level1"]
        labels = {"category": row["category"], "department": row["department"]}
        yield text, labels, CROSSWALK_WEIGHT[row["confidence"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["written", "letters", "corrections", "taxonomy", "regulations"],
    )
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
