"""Pre-train the project's own compact encoder on the text in JIESU_DATA (default ../shared/data).

    python benchmarks/pretrain_encoder.py encoder --steps 6930 --batch 256 --rate 2e-3

Messages weigh most, being what the encoder will read; regulations, which are most of the text, least.
"""

import argparse
import gzip
import json
import logging
from dataclasses import fields
from pathlib import Path

from train_default import DATA, ROOT, rows

from jiesu_nlp.corpus import Source
from jiesu_nlp.pretrain import PretrainConfig, pretrain
from jiesu_nlp.text import join_fields


def corpus() -> list[Source]:
    messages = [join_fields(r["title"], r["body"]) for r in rows(DATA / "messages.jsonl")]
    seen = set(messages)
    labelled = [join_fields(r["title"], r["body"]) for r in rows(DATA / "complaints_labelled.jsonl")]
    messages += [text for text in labelled if text not in seen]
    letters = [join_fields(r["title"], r["body"]) for r in rows(DATA / "beijing_letters.jsonl")]
    hangzhou = [join_fields(r["title"], r["body"]) for r in rows(DATA / "hangzhou_board.jsonl")]
    rivers = [join_fields(r["title"], r["body"]) for r in rows(DATA / "river_tickets.jsonl")]
    samples = sorted((ROOT / "data" / "samples").glob("*.jsonl"))
    written = [join_fields(r.get("title"), r["body"]) for path in samples for r in rows(path)]
    replies = [
        r["reply"] for name in ("replies", "beijing_letters", "river_tickets") for r in rows(DATA / f"{name}.jsonl")
    ]
    segmented = ["".join(r["tokens"].split()) for r in rows(DATA / "seven_class_segmented.jsonl")]
    with gzip.open(DATA / "regulations.jsonl.gz", "rt", encoding="utf-8") as file:
        laws = [json.loads(line) for line in file]
    with gzip.open(DATA / "colloquial.jsonl.gz", "rt", encoding="utf-8") as file:
        colloquial = [json.loads(line)["text"] for line in file]
    return [
        Source("messages", messages, 4),
        Source("segmented", segmented, 1.5),
        Source("letters", letters + hangzhou + written, 4),
        Source("replies", [text for text in replies if text] + rivers, 2),
        Source("beijing regulations", [law["text"] for law in laws if law["place"] == "北京"], 1),
        Source("other regulations", [law["text"] for law in laws if law["place"] != "北京"], 0.7),
        Source("colloquial", colloquial, 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", type=Path)
    for field in fields(PretrainConfig):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    arguments = vars(parser.parse_args())
    out, base = arguments.pop("out"), arguments.pop("base")
    logging.basicConfig(level=logging.WARNING)
    report = pretrain(corpus(), out, base, PretrainConfig(**arguments), progress=print)
    print(json.dumps(report["losses"][-2:]))


if __name__ == "__main__":
    main()
