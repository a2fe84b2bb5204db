"""Fine-tune an encoder on the default model's data, or on the seven classes, and print what it earns.

    python benchmarks/train_encoder.py out --base encoder
    python benchmarks/train_encoder.py out7 --base encoder --task seven
    python benchmarks/train_encoder.py out --base encoders/compact --keep encoders/complaints
    python benchmarks/train_encoder.py out --package jiesu_nlp/accurate_model

Figures are on near-copy groups held out of both models: TF-IDF alone (out-of-fold), the encoder alone, and
the blend with weights that were fitted without the row. The real complaints are read from JIESU_DATA.
"""

import argparse
import json
import os
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
from train_default import DATA, load

from jiesu_nlp.examples import Examples
from jiesu_nlp.model_card import model_card
from jiesu_nlp.models.bert import BertModel
from jiesu_nlp.models.blend import BlendModel
from jiesu_nlp.models.fit_bert import FineTuneConfig
from jiesu_nlp.models.load import load_model
from jiesu_nlp.models.store import model_folder
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.models.wordpiece import Reading
from jiesu_nlp.train import train

SHOWN = ("rows", "macro_f1", "top1", "top3", "ece", "accuracy_at_70")


def seven() -> Examples:
    examples = Examples()
    examples.add_table(DATA / "seven_class_segmented.jsonl", ["tokens"], ["label"])
    return examples


def package(blended: Path, folder: Path) -> None:
    """Write a blend without its TF-IDF part, which is the packaged default model already."""
    blend, default = load_model(blended), load_model()
    assert isinstance(blend, BlendModel) and isinstance(default, TfidfModel)
    linear, encoder = blend.parts
    assert isinstance(linear, TfidfModel) and isinstance(encoder, BertModel)
    if linear.words != default.words or not np.array_equal(linear.weights, default.weights):
        raise SystemExit("the blend's TF-IDF part is not the packaged model; train both on the same data")
    meta = dict(blend.meta) | {"name": "accurate", "version": "1.0"}
    BlendModel(blend.taxonomy, (default, encoder), blend.weights, meta).save(str(folder))
    shutil.rmtree(folder / "tfidf")
    written = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    packaged = (model_folder() / "model.json").read_bytes()  # as it was packaged, not as it was saved again
    written["files_sha256"]["tfidf/model.json"] = sha256(packaged).hexdigest()
    text = json.dumps(written, ensure_ascii=False, indent=1, sort_keys=True)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(model_card(meta, blend.taxonomy.to_dict()), encoding="utf-8")
    load_model(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", default="")
    parser.add_argument("--package", type=Path, help="only write an earlier run's blend as a packaged model")
    parser.add_argument("--task", choices=["complaints", "seven"], default="complaints")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--hidden", type=float, default=FineTuneConfig.hidden)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--loss", default="cross_entropy")
    parser.add_argument("--class-weights", action="store_true")
    parser.add_argument("--keep", default="", help="also write the fine-tuned encoder, a base for other label sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--unlabelled", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    if arguments.package:
        package(arguments.out, arguments.package)
        return
    config = FineTuneConfig(
        base=arguments.base,
        reading=Reading(length=arguments.length, windows=arguments.windows),
        epochs=arguments.epochs,
        batch=arguments.batch,
        rate=arguments.rate,
        dropout=arguments.dropout,
        hidden=arguments.hidden,
        loss=arguments.loss,
        class_weights=arguments.class_weights,
        keep=arguments.keep,
        seed=arguments.seed,
    )
    examples = load() if arguments.task == "complaints" else seven()
    report = train(
        examples,
        arguments.out,
        kind="blend",
        bert=config,
        teacher=load_model(arguments.teacher) if arguments.teacher else None,
        unlabelled=arguments.unlabelled,
        jobs=os.cpu_count() or 1,
        progress=lambda message: print(message, flush=True),
    )
    how = load_model(arguments.out).meta["fit"]
    for name, figures in {**how["parts"], "blend": report.metrics}.items():
        for head, values in figures.items():
            print(f"{name:<6} {head:<10} " + " ".join(f"{key} {values[key]:.4f}" for key in SHOWN))
    for source, metrics in report.by_source.items():
        for head, values in metrics.items():
            print(f"blend on {source:<12} {head:<10} " + " ".join(f"{key} {values[key]:.4f}" for key in SHOWN))
    for head, cost in how["int8"].items():
        print(f"int8 {head:<10} " + " ".join(f"{key} {value}" for key, value in cost.items()))
    print("weights", how["weights"])


if __name__ == "__main__":
    main()
