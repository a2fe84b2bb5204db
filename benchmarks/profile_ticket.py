"""Where the time of one ticket goes, and the floor under it: the bytes that must be touched.

    python benchmarks/profile_ticket.py

Stages are timed one after the other on the same real messages (JIESU_DATA), round by round, in processor time of
this one thread; shares are of the whole answer without its words, medians over the rounds.
"""

import argparse
import gc
import time
from collections.abc import Callable
from statistics import mean, median

import jieba
import numpy as np
from train_default import DATA, rows

from jiesu_nlp import Classifier, native
from jiesu_nlp.cues import _patterns, find_cues
from jiesu_nlp.features import prepare
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.segment import _cutter, compiled
from jiesu_nlp.text import join_fields, normalise

BATCH = 256


def bandwidth() -> float:
    """Bytes a second that one thread reads and writes, copying what no cache holds."""
    source = np.ones(1 << 26, np.uint8)
    target = np.empty_like(source)
    taken = []
    for _ in range(5):
        begin = time.perf_counter()
        np.copyto(target, source)
        taken.append(time.perf_counter() - begin)
    return 2 * len(source) / median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    texts = [join_fields(r["title"], r["body"]) for r in rows(DATA / "messages.jsonl")[::9]][: arguments.texts]
    classifier = Classifier.load()
    model = classifier.model
    assert isinstance(model, TfidfModel) and native.loaded()
    batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
    prepared, folded = [prepare(text) for text in texts], [normalise(text) for text in texts]
    starts, rust = _patterns()[1], _cutter("rjieba")
    read = [model.vectorise(batch) for batch in batches]

    def each(function: Callable[[str], object], what: list[str]) -> Callable[[], object]:
        return lambda: [function(text) for text in what]

    stages: dict[str, Callable[[], object]] = {
        "jieba, for comparison": each(jieba.lcut, texts),
        "rjieba, for comparison": each(rust, prepared),
        "words alone, compiled, as lists": each(compiled().words, prepared),
        "words, n-grams, weights: all scores": lambda: [model.vectorise(batch) for batch in batches],
        "probabilities": lambda: [model.probabilities(some) for some in read],
        "cues: folding": each(normalise, texts),
        "cues: where one may begin": each(lambda text: list(starts._compiled.find(text)), folded),
        "cues: matching": each(starts.find, folded),
        "cues, whole": each(find_cues, texts),
        "whole answer": lambda: [classifier.classify_batch(batch, explain=False) for batch in batches],
        "whole answer with its words": lambda: [classifier.classify_batch(batch) for batch in batches],
    }
    taken: dict[str, list[float]] = {name: [] for name in stages}
    jieba.initialize()
    gc.collect()
    gc.freeze()  # what the peers have loaded would be walked through for every few thousand of our objects
    for _ in range(arguments.rounds + 1):
        for name, stage in stages.items():
            begin = time.process_time()
            stage()
            taken[name].append((time.process_time() - begin) / len(texts) * 1e6)
    whole = taken["whole answer"][1:]
    print(f"{len(texts)} messages of {mean(map(len, texts)):.0f} characters")
    print("| stage | microseconds a ticket | of the whole answer |")
    print("|---|---|---|")
    for name, values in taken.items():
        share = median(value / all_of_it for value, all_of_it in zip(values[1:], whole, strict=True))
        print(f"| {name} | {median(values[1:]):.0f} | {share:.2f} |")
    columns = len(model.bias)
    entries = mean(len(some.entries) for some in read) / mean(map(len, batches))
    touched = {"text": 4 * mean(map(len, texts)), "weights": 4 * columns * entries}
    speed = bandwidth()
    for name, size in touched.items():
        print(f"{name}: {size / 1e3:.0f} kB a ticket, {size / speed * 1e6:.1f} microseconds at {speed / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
