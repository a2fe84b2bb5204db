"""The model card: what a model was made of and how it did, written from its own ``model.json``."""

from collections.abc import Mapping
from typing import Any

_OUT_OF_FOLD = "Out-of-fold: each text judged by a model that has seen neither it nor a near-copy."
_HELD_OUT = "On {} texts held out: the encoder has seen neither them nor a near-copy, but was chosen by them."
_FIGURES = ("rows", "macro_f1", "top1", "top3", "ece", "accuracy_at_70")


def model_card(meta: Mapping[str, Any], taxonomy: Mapping[str, Any]) -> str:
    """Markdown, the same for the same model.

    Args:
        meta: what ``model.json`` says. taxonomy: `Taxonomy.to_dict`.
    """
    data, heads = meta["data"], taxonomy["heads"]
    lines = [
        f"# {meta['name']} {meta['version']}",
        "",
        "Classifies Chinese citizen complaints. Made by `jiesu train`; this card was written by the same run.",
        "",
        "## Labels",
        "",
        f"Taxonomy {taxonomy['name']} {taxonomy['version']} (`{taxonomy['hash']}`): "
        + ", ".join(f"{head} ({len(labels)})" for head, labels in sorted(heads.items()))
        + ".",
        "",
        "## Data",
        "",
        f"{data['rows']} texts in {data['groups']} groups of near-copies, fingerprint `{data['fingerprint']}`: "
        + ", ".join(f"{name} {n}" for name, n in sorted(data["sources"].items()))
        + ". The model keeps no text; a vocabulary entry occurs in at least three different texts.",
        "",
        "## Figures",
        "",
        _OUT_OF_FOLD if data.get("judged", data["rows"]) == data["rows"] else _HELD_OUT.format(data["judged"]),
        "",
        "| head | " + " | ".join(_FIGURES) + " | sent to review below |",
        "|---|" + "---|" * (len(_FIGURES) + 1),
    ]
    for head, figures in sorted(meta["metrics"].items()):
        cells = [f"{figures[name]:.0f}" if name == "rows" else f"{figures[name]:.3f}" for name in _FIGURES]
        lines.append(f"| {head} | {' | '.join(cells)} | {meta['thresholds'].get(head, 0):.2f} |")
    lines += [
        "",
        f"Answers above the last column are right in {meta['target_accuracy']:.0%} of such texts.",
        "",
        "## Use",
        "",
        "For routing with a person behind it: an answer under its threshold asks for review, and the ranked candidates",
        "stand. The figures hold for texts like those above; another city, channel or year needs figures of its own",
        "(`jiesu evaluate`). Probabilities say how often such answers are right, not how grave a matter is.",
        "",
        "Libraries: " + ", ".join(f"{name} {v}" for name, v in sorted(meta["libraries"].items())) + ".",
    ]
    return "\n".join(lines) + "\n"
