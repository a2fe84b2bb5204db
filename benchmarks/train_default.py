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
from collections.abc import Collection, Iterator
from pathlib import Path

from jiesu_nlp.examples import Examples
from jiesu_nlp.models.fit_tfidf import FitConfig
from jiesu_nlp.taxonomy import Taxonomy, packaged_table
from jiesu_nlp.text import join_fields
from jiesu_nlp.train import train

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("JIESU_DATA", ROOT.parent / "shared" / "data"))
HEADS = ("category", "department", "intent", "recurrence")
LETTER_WEIGHT = 0.3  # all about buses: enough to learn the wording, not to make every suggestion one
WRITTEN_WEIGHT = 2.0
HARD = ("emergencies", "intents", "life", "matters", "messages", "portal", "short", "tickets")
HARD_WEIGHT = dict.fromkeys((*HARD, *(f"letters-{part}" for part in "abcde")), 1.0) | {"praise-2": 0.3}
"""Files of border cases, or of a text a matter: they say where a border runs, not what is usual on its sides."""
TOPICAL, INTENTS_OF = ("life", "matters", "tickets"), 3
"""Files whose every third intent is learned: they teach topics; how people ask, real messages say better."""
BOARD_WEIGHT = 1.0
SEGMENTED_WEIGHT = 0.5
DUTY_WEIGHT = 0.2
DUTIES_EACH = 150
DEFINITION_WEIGHT = 0.5
CROSSWALK_WEIGHT = {"high": 0.7, "medium": 0.35, "low": 0.1}


def rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def readings(name: str) -> dict[str, dict[str, str]]:
    """Labels that we gave to real texts by reading them, by the id of the text; without those left open."""
    with (ROOT / "data" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return {r.pop("id"): {head: code for head, code in r.items() if code} for r in csv.DictReader(file)}


Example = tuple[dict, dict, float]
"""A row with id, title and body; its labels; its weight."""


def complaints(corrected: dict[str, dict[str, str]]) -> Iterator[Example]:
    for row in rows(DATA / "complaints_labelled.jsonl"):
        yield row, row | corrected.get(row["id"], {}), 1.0


def written() -> Iterator[Example]:
    for path in sorted((ROOT / "data" / "samples").glob("*.jsonl")):
        for number, row in enumerate(rows(path)):
            unsaid = {"intent": None} if path.stem in TOPICAL and number % INTENTS_OF else {}
            yield row, row | unsaid, HARD_WEIGHT.get(path.stem, WRITTEN_WEIGHT)


def board() -> Iterator[Example]:
    labels = readings("readings/hangzhou_board")
    for row in rows(DATA / "hangzhou_board.jsonl"):
        yield row, labels[row["id"]], BOARD_WEIGHT


def segmented() -> Iterator[Example]:
    """Texts published without their stop words, which say enough of a topic, and too little of an intent."""
    texts = rows(DATA / "seven_class_segmented.jsonl")
    for number, labels in readings("readings/seven_class_segmented").items():
        body = texts[int(number.removeprefix("S"))]["tokens"].replace(" ", "")
        yield {"id": number, "body": body}, labels, SEGMENTED_WEIGHT


def letters() -> Iterator[Example]:
    for row in rows(DATA / "beijing_letters.jsonl"):
        # Their type is left out: as nearly all are suggestions, it would teach that short letters are.
        yield row, {"category": "convenience", "department": row["department"]}, LETTER_WEIGHT


def load(without: Collection[str] = ()) -> Examples:
    """All training sources, each of which can be left out by name."""
    corrected = {} if "corrections" in without else readings("corrections")
    sources = {
        "complaints": complaints(corrected),
        "written": written(),
        "letters": letters(),
        "board": board(),
        "segmented": segmented(),
        "taxonomy": taxonomy_texts(),
        "regulations": duties(),
    }
    examples = Examples(labels={head: [] for head in (*HEADS, "co")})
    for source in [name for name in sources if name not in without]:
        for row, labels, weight in sources[source]:
            examples.ids.append(row["id"])
            examples.texts.append(join_fields(row.get("title"), row["body"]))
            examples.weight.append(weight)
            examples.source.append(source)
            for head in examples.labels:
                value = labels.get(head)
                examples.labels[head].append(None if value is None else str(value))
    return examples


def duties() -> Iterator[Example]:
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
                        row = {"id": f"R-{seen.total()}", "title": law["title"][:30], "body": pattern.sub("", sentence)}
                        yield row, {"department": code}, DUTY_WEIGHT


def taxonomy_texts() -> Iterator[Example]:
    """What the label files say belongs to a label, as weak examples."""
    for head in ("category", "department"):
        for label in Taxonomy.load().heads[head]:
            for text in (label.definition, *label.includes.split(";")):
                yield {"id": f"T-{label.code}", "body": text}, {head: label.code}, DEFINITION_WEIGHT
    for row in packaged_table("crosswalk", "level1", "level2", "level3", "category", "department", "confidence"):
        text = " ".join(level for level in (row["level2"], row["level3"]) if level != "其他") or row["level1"]
        labels = {"category": row["category"], "department": row["department"]}
        yield {"id": f"S-{text}", "body": text}, labels, CROSSWALK_WEIGHT[row["confidence"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=["written", "letters", "board", "segmented", "corrections", "taxonomy", "regulations"],
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
