"""The evaluation job: a model against a labelled table."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jiesu_nlp.errors import InvalidTextError, TableError
from jiesu_nlp.metrics import coverage_accuracy, summarise
from jiesu_nlp.models.base import FloatArray, Model
from jiesu_nlp.recurrence import text_levels
from jiesu_nlp.tables import cells_of, guess_columns, ids_of, read_table, texts_of
from jiesu_nlp.text import check_text

_PAIRS = 15
_IDS = 5


def evaluate(
    model: Model, table: str | Path, *, text: Sequence[str] = (), labels: Sequence[str] = ()
) -> dict[str, Any]:
    """Figures of a model on a table: JSON-ready, without any text.

    Returns:
        ``{"rows", "skipped": [{row, reason}], "heads": {head: {figures, classes, coverage, confusions}}}``.
        Coverage is a list of [share answered, accuracy]; a confusion names up to five row ids.

    Raises:
        TableError: no label column belongs to a head of the model. UnknownLabelError: a label is
            none of the model's.
    """
    frame = read_table(table)
    columns = guess_columns(frame.columns, text, labels)
    heads = [head for head in model.taxonomy.heads if head in columns.labels]
    if not heads:
        raise TableError(
            f"none of the label columns {list(columns.labels)} is a head of the model "
            f"({', '.join(model.taxonomy.heads)}); name one with --label head=column"
        )
    texts, ids = texts_of(frame, columns), ids_of(frame, columns)
    usable, skipped = [], []
    for row, value in enumerate(texts):
        try:
            check_text(value)
            usable.append(row)
        except InvalidTextError as error:
            skipped.append({"row": ids[row], "reason": str(error)})
    if not usable:
        raise TableError(f"{Path(table).name}: no row has a text that can be classified")
    kept = [texts[row] for row in usable]
    probabilities = model.predict_proba(kept)
    if parameters := model.meta.get("recurrence"):
        probabilities["recurrence"] = text_levels(probabilities["recurrence"], kept, parameters)
    report: dict[str, Any] = {"rows": len(usable), "skipped": skipped, "heads": {}}
    for head in heads:
        cells = cells_of(frame, columns.labels[head])
        known = [(i, cells[row]) for i, row in enumerate(usable) if cells[row] is not None]
        codes = model.taxonomy.codes(head)
        position = {cell: codes.index(model.taxonomy.resolve(head, cell)) for cell in {cell for _, cell in known}}
        target = np.array([position[cell] for _, cell in known], np.int64)
        rows = [i for i, _ in known]
        if rows:
            report["heads"][head] = _head(probabilities[head][rows], target, codes, [ids[usable[i]] for i in rows])
    return report


def _head(p: FloatArray, target: "np.ndarray[Any, Any]", codes: Sequence[str], ids: Sequence[str]) -> dict[str, Any]:
    predicted = p.argmax(axis=1)
    classes = []
    for k in np.unique(np.concatenate([target, predicted])):
        hit = int(((predicted == k) & (target == k)).sum())
        said, true = int((predicted == k).sum()), int((target == k).sum())
        precision, recall = hit / said if said else 0.0, hit / true if true else 0.0
        f1 = 2 * precision * recall / (precision + recall) if hit else 0.0
        classes.append({"code": codes[k], "rows": true, "precision": precision, "recall": recall, "f1": f1})
    coverage, accuracy = coverage_accuracy(p, target)
    points = np.unique(np.clip((np.linspace(0.05, 1, 20) * len(target)).astype(int) - 1, 0, None))
    wrong = Counter((int(t), int(g)) for t, g in zip(target, predicted, strict=True) if t != g)
    confusions = [
        {
            "label": codes[t],
            "predicted": codes[g],
            "rows": n,
            "ids": [ids[i] for i in np.flatnonzero((target == t) & (predicted == g))[:_IDS]],
        }
        for (t, g), n in wrong.most_common(_PAIRS)
    ]
    return {
        "figures": summarise(p, target),
        "classes": classes,
        "coverage": [[round(float(coverage[i]), 4), round(float(accuracy[i]), 4)] for i in points],
        "confusions": confusions,
    }
