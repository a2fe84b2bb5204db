"""Tickets a second of an encoder: plain transformers pipeline in float32 against int8 in batches of one length.

    python benchmarks/encoder_speed.py --base encoder

Both run the same weights, with a head of 55 columns that nobody trained, on the same real messages
(JIESU_DATA), in turns in one process. The pipeline is used as its documentation shows it: batches of 32 in
the order of the texts, padded to the longest, cut at the model's 512 tokens.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import numpy as np
import torch
from train_default import DATA, rows
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from jiesu_nlp.models.bert import BertModel, threads
from jiesu_nlp.models.export_bert import to_network
from jiesu_nlp.models.fit_bert import token_heads
from jiesu_nlp.models.network import OnnxNetwork
from jiesu_nlp.models.torch_tools import load_base
from jiesu_nlp.models.wordpiece import Reading, readable
from jiesu_nlp.taxonomy import Taxonomy
from jiesu_nlp.text import join_fields

COLUMNS = 55


def ours(base: str, sample: list[str]) -> BertModel:
    tokenizer, encoder = load_base(AutoModel, base)
    taxonomy = Taxonomy.from_values({"h": [f"{i:02}" for i in range(COLUMNS)]})
    plain = np.ones(COLUMNS, np.float32), np.zeros(COLUMNS, np.float32)
    model = BertModel(taxonomy, OnnxNetwork(b""), tokenizer.backend_tokenizer.to_str().encode(), *plain)
    return replace(model, network=to_network(token_heads(encoder, COLUMNS, 0.0), model.rows(sample)[-1]))


def peer(base: str) -> Callable[[list[str]], object]:
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=COLUMNS, dtype=torch.float32).eval()
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device=-1)
    return lambda texts: classify(texts, batch_size=32, truncation=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(threads())
    messages = [join_fields(r["title"], r["body"]) for r in rows(DATA / "messages.jsonl")[: arguments.texts]]
    model = ours(arguments.base, messages[:100])
    ways = Reading(256), Reading(512), Reading(256, windows=2)
    short, whole, halves = (replace(model, reading=way) for way in ways)
    prepared = [readable(text) for text in messages]  # so that both read the same tokens
    run = {
        "transformers pipeline, float32, 512 tokens": (peer(arguments.base), prepared),
        "int8, one length, 512 tokens": (whole.predict_proba, messages),
        "int8, one length, twice 256 tokens": (halves.predict_proba, messages),
        "int8, one length, 256 tokens": (short.predict_proba, messages),
    }
    seconds: dict[str, list[float]] = {name: [] for name in run}
    for _ in range(arguments.repeats + 1):
        for name, (classify, texts) in run.items():
            begin = time.perf_counter()
            classify(texts)
            seconds[name].append(time.perf_counter() - begin)
    first = median(next(iter(seconds.values()))[1:])
    print(f"{len(messages)} messages, {threads()} threads")
    for name, taken in seconds.items():  # the first round warms up
        rate = len(messages) / median(taken[1:])
        print(f"{name:<44} {rate:8.0f} tickets/s  {first / median(taken[1:]):5.2f} x")


if __name__ == "__main__":
    main()
