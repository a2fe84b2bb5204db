"""How long tickets are best read: head and tail, or in pieces whose logits are pooled.

    python benchmarks/long_texts.py blend_folder

Reads the rows that `train_encoder.py` held out again, in different ways, with the encoder that was fine-tuned
on 256 tokens, three quarters of them from the beginning. Figures are on the rows longer than that, and on all.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from train_default import load

from jiesu_nlp.examples import check, scheme_of
from jiesu_nlp.metrics import macro_f1, top_k
from jiesu_nlp.models.bert import BertModel
from jiesu_nlp.models.load import load_model
from jiesu_nlp.models.task import Task, prepare_lesson
from jiesu_nlp.models.wordpiece import Reading
from jiesu_nlp.neardup import near_duplicate_groups

VARIANTS = {
    "256 tokens, 3/4 head": Reading(256, 0.75),
    "256 tokens, head alone": Reading(256, 1.0),
    "256 tokens, 1/2 head": Reading(256, 0.5),
    "128 tokens, 3/4 head": Reading(128, 0.75),
    "512 tokens, 3/4 head": Reading(512, 0.75),
    "2 pieces of 256": Reading(256, 0.75, windows=2),
    "4 pieces of 256": Reading(256, 0.75, windows=4),
    "4 pieces of 128": Reading(128, 0.75, windows=4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model = load_model(arguments.model / "bert")
    assert isinstance(model, BertModel)
    examples = load()
    targets, _ = check(examples, scheme_of(examples, None))
    groups, weights = near_duplicate_groups(examples.texts), np.array(examples.weight, np.float32)
    task = Task(examples.texts, targets, model.taxonomy, groups, weights, len(examples.texts))
    held = prepare_lesson(task, 0.1, False, arguments.seed).held
    texts = [examples.texts[i] for i in held]
    long = np.array([len(encoding.ids) > 254 for encoding in model.rows(texts)[1]])
    print(f"{len(texts)} rows held out, {long.sum()} of them longer than 254 tokens")
    for name, reading in VARIANTS.items():
        begin = time.perf_counter()
        said = replace(model, reading=reading).predict_proba(texts)
        seconds = time.perf_counter() - begin
        for head in ("category", "department"):
            target = targets[head][held]
            cells = [
                f"{macro_f1(said[head][rows], target[rows]):.3f} {top_k(said[head][rows], target[rows], 1):.3f}"
                for rows in ((target >= 0) & long, target >= 0)
            ]
            print(f"{name:<24} {head:<10} long {cells[0]}  all {cells[1]}  {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
