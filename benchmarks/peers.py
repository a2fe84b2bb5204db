"""Peers side by side: what each gets right on the same held-out rows, and what it costs on the same machine.

    python benchmarks/peers.py
    python benchmarks/peers.py --only naive labels answers

Every peer is trained on the same rows (JIESU_DATA and data/samples), and runs in processes of its own that take
turns: rates are medians over rounds in which each peer reads the same real messages once, on one core and then
in two processes on two. Cold start is from starting the process to its first answer. What was trained is kept
in --work and used again.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from hashlib import sha256
from itertools import cycle
from pathlib import Path
from statistics import median

import numpy as np
import peer_models
from peer_models import PEERS
from train_default import DATA, ROOT, load, rows

from jiesu_nlp.examples import check, fingerprint, scheme_of
from jiesu_nlp.metrics import macro_f1
from jiesu_nlp.models.store import model_folder
from jiesu_nlp.models.task import Task, prepare_lesson
from jiesu_nlp.neardup import near_duplicate_groups
from jiesu_nlp.taxonomy import Taxonomy
from jiesu_nlp.text import join_fields


def prepare(work: Path, names: Sequence[str]) -> None:
    """Train what is not there yet, on the rows that the packaged encoder has learned from too."""
    examples = load()
    same = work / "data"
    # The accurate model's file holds a hash of the default one's.
    packaged = sha256((model_folder("accurate") / "model.json").read_bytes()).hexdigest()
    stamp = f"{fingerprint(examples)} {packaged}"
    if (work / "split.json").exists() and (not same.exists() or same.read_text() != stamp):
        raise SystemExit(f"{work} was prepared with other data or models; remove it, and run this again")
    if not (work / "split.json").exists():
        same.write_text(stamp)
        taxonomy = scheme_of(examples, None)
        targets, _ = check(examples, taxonomy)
        groups, weights = near_duplicate_groups(examples.texts), np.array(examples.weight, np.float32)
        lesson = prepare_lesson(Task(examples.texts, targets, taxonomy, groups, weights, len(groups)), 0.1, False, 0)
        learned = np.flatnonzero(~np.isin(groups, groups[lesson.held]))
        split = {"train": learned.tolist(), "held": lesson.held.tolist(), "category": targets["category"].tolist()}
        (work / "split.json").write_text(json.dumps(split))
        messages = [join_fields(r["title"], r["body"]) for r in rows(DATA / "messages.jsonl")]
        (work / "messages.json").write_text(json.dumps(messages))
        (work / "held.json").write_text(json.dumps([examples.texts[i] for i in split["held"]]))
    split = json.loads((work / "split.json").read_text())
    codes = Taxonomy.load().codes("category")
    known = [i for i in split["train"] if split["category"][i] >= 0]
    texts, labels = [examples.texts[i] for i in known], [codes[split["category"][i]] for i in known]
    for name in names:
        folder = work / (PEERS[name].folder or name)
        if (folder / "done").exists():
            continue
        print(f"training {folder.name}", flush=True)
        folder.mkdir(exist_ok=True)
        if fit := PEERS[name].fit:
            fit(texts, labels, folder)
        elif folder.name == "default":
            fit_default(work, split["train"])
        elif folder.name == "accurate":
            fit_default(work, split["train"])
            blend_with(work / "default", folder)
        (folder / "done").touch()


def fit_default(work: Path, learned: Sequence[int]) -> None:
    from jiesu_nlp.train import train

    if (work / "default" / "model.json").exists():
        return
    examples = load()
    for name, values in vars(examples).items():
        if isinstance(values, list):
            setattr(examples, name, [values[i] for i in learned])
    examples.labels = {head: [cells[i] for i in learned] for head, cells in examples.labels.items()}
    train(examples, work / "default", jobs=os.cpu_count() or 1)


def blend_with(linear: Path, folder: Path) -> None:
    """The packaged encoder, which has not seen the rows held out, beside a TF-IDF part that has not either."""
    from jiesu_nlp.models.blend import BlendModel
    from jiesu_nlp.models.load import load_model

    packaged = load_model("accurate")
    assert isinstance(packaged, BlendModel)
    parts = (load_model(linear), packaged.parts[1])
    BlendModel(packaged.taxonomy, parts, packaged.weights, packaged.meta).save(str(folder))


class Worker:
    """A process that has loaded a peer, and reads when it is told to."""

    def __init__(self, name: str, work: Path) -> None:
        begin = time.perf_counter()
        one_thread = {f"{lib}_NUM_THREADS": "1" for lib in ("OMP", "OPENBLAS", "MKL", "RAYON")}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(peer_models.__file__)), str(work), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | one_thread,
        )
        if not self.process.stdout.readline():
            raise SystemExit(f"{name} does not start; `python {peer_models.__file__} {work} {name}` says why")
        self.cold = time.perf_counter() - begin

    def tell(self, order: dict) -> None:
        print(json.dumps(order), file=self.process.stdin, flush=True)

    def answer(self) -> dict:
        return json.loads(self.process.stdout.readline() or "{}")

    def ask(self, order: dict) -> dict:
        self.tell(order)
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(work: Path, names: Sequence[str], rounds: int) -> dict[str, dict[str, float]]:
    split = json.loads((work / "split.json").read_text())
    target = np.array(split["category"])[split["held"]]
    judged = target >= 0
    codes = list(Taxonomy.load().codes("category"))
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for _ in range(rounds):
        for name in names:
            worker = Worker(name, work)
            taken[name].setdefault("cold", []).append(worker.cold)
            worker.close()
    workers = {name: (Worker(name, work), Worker(name, work)) for name in names}
    result: dict[str, dict[str, float]] = {}
    for name, (first, second) in workers.items():
        for one in (first, second):  # warm
            one.ask({"to": PEERS[name].texts})
        result[name] = {"peak": first.ask({})["peak"]}
    for number in range(rounds):
        for name, (first, second) in workers.items():
            size, notes = PEERS[name].texts, taken[name]
            at = number * size
            notes.setdefault("one", []).append(size / first.ask({"from": at, "to": at + size})["seconds"])
            first.tell({"from": at, "to": at + size})
            second.tell({"from": at + size, "to": at + 2 * size})
            both = [one.answer()["seconds"] for one in (first, second)]
            notes.setdefault("two", []).append(2 * size / max(both))
            notes.setdefault("single", []).append(first.ask({"from": at, "to": at + 50, "single": True})["single"])
    for name, (first, second) in workers.items():
        result[name] |= {key: median(values) for key, values in taken[name].items()}
        for key, values in taken[name].items():
            ratios = np.array(values) / np.array(taken[names[0]][key if key != "two" else "one"])
            result[name][f"{key}_ratio"] = float(np.median(ratios))
        folder = work / (PEERS[name].folder or name)
        result[name]["megabytes"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
        if PEERS[name].fit or PEERS[name].folder:
            given = np.eye(len(codes))[[codes.index(label) for label in first.ask({"held": True})["labels"]]]
            result[name]["macro_f1"] = macro_f1(given[judged], target[judged])
        first.close()
        second.close()
    return result


def show(result: dict[str, dict[str, float]]) -> None:
    print(
        "| | category macro-F1 | tickets/s, 1 core | 2 cores | one ticket, ms | cold start, s | peak MiB | model MB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, values in result.items():
        f1 = f"{values['macro_f1']:.3f}" if "macro_f1" in values else "-"
        cells = [PEERS[name].title, f1]
        for key, digits, scale in (("one", 0, 1), ("two", 0, 1), ("single", 2, 1000), ("cold", 2, 1)):
            cells.append(f"{values[key] * scale:,.{digits}f} ({values[key + '_ratio']:.2f} x)")
        cells += [f"{values['peak']:.0f}", f"{values['megabytes']:.1f}"]
        print("| " + " | ".join(cells) + " |")
    print(f"\nIn brackets: the median of the ratios to `{next(iter(result))}` on one core, in the same round.")


def plot(result: dict[str, dict[str, float]], path: Path) -> None:
    import matplotlib.pyplot as plt

    plt.rcParams["svg.fonttype"] = "none"
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    shown = [(name, values) for name, values in result.items() if "macro_f1" in values and name != "explained"]
    heights = {"C3": cycle((8, 22)), "C0": cycle((-16, -16, 8, -16))}  # of names, so that neighbours' do not overlap
    for name, values in sorted(shown, key=lambda pair: pair[1]["one"]):
        at, colour = (values["one"], values["macro_f1"]), "C3" if PEERS[name].folder else "C0"
        axes.scatter(*at, s=60, color=colour, zorder=3)
        axes.annotate(PEERS[name].title, at, (0, next(heights[colour])), textcoords="offset points", ha="center")
    axes.set(xscale="log", xlabel="tickets a second on one core", ylabel="category macro-F1, held out")
    axes.grid(alpha=0.3)
    axes.margins(0.2)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / ".venv" / "peers")
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    names = list(arguments.only)
    try:
        import fasttext  # noqa: F401
    except ImportError:
        print("fastText is left out: `pip install fasttext` needs a C++ compiler")
        names = [name for name in names if name != "fasttext"]
    prepare(arguments.work, names)
    result = measure(arguments.work, names, arguments.rounds)
    show(result)
    plot(result, ROOT / "benchmarks" / "plots" / "peers.svg")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
