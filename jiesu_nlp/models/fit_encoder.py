"""From a fine-tuned network to a model that can be saved: exported, checked, calibrated, perhaps blended."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold

from jiesu_nlp.metrics import macro_f1, summarise
from jiesu_nlp.models.base import FloatArray, IntArray, Model, columns
from jiesu_nlp.models.batcher import Batcher
from jiesu_nlp.models.bert import BertModel
from jiesu_nlp.models.blend import BlendModel, blend, fit_weights
from jiesu_nlp.models.fit_bert import FineTuneConfig
from jiesu_nlp.models.network import OnnxNetwork
from jiesu_nlp.models.task import Task, check_teacher
from jiesu_nlp.models.tfidf import TfidfModel

_FOLDS = 5
_SAMPLE = 256
"""Number of texts by which the scales of activations are found, where they are kept in the network."""
CHECKPOINTS = "checkpoints"


def fit_encoder(
    task: Task,
    config: FineTuneConfig,
    out: Path,
    linear: Callable[[], tuple[TfidfModel, Mapping[str, FloatArray]]] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> tuple[Model, dict[str, FloatArray], IntArray, dict[str, Any]]:
    """Fine-tune, export to int8, calibrate; blend with a TF-IDF model where one is given.

    Args:
        out: checkpoints are kept in its folder `CHECKPOINTS`; whoever saves the model removes them.
        linear: fits a TF-IDF model and gives its out-of-fold probabilities of the own rows too.

    Returns:
        The model; ``{head: (rows, k)}`` of the rows held out; their numbers; what was done, JSON-ready.

    Raises:
        ModelFormatError: the base cannot be loaded or exported.
        TrainingDataError: the teacher has other labels, or too few rows.
    """
    from jiesu_nlp.models.export_bert import to_network
    from jiesu_nlp.models.fit_bert import fit
    from jiesu_nlp.models.torch_tools import exact

    check_teacher(task)
    fitted = fit(task, config, out / CHECKPOINTS, progress)
    progress("exporting to int8")
    plain = np.ones(task.width, np.float32), np.zeros(task.width, np.float32)
    rng = np.random.default_rng(config.seed)
    learned = np.setdiff1d(np.arange(task.own), fitted.held)
    some = rng.permutation(learned)[:_SAMPLE]
    model = BertModel(task.taxonomy, OnnxNetwork(b""), fitted.tokenizer, *plain, config.reading)
    *_, rows = model.rows([task.texts[i] for i in some])  # needs no network yet
    model = replace(model, network=to_network(fitted.network, rows))
    texts = [task.texts[i] for i in fitted.held]
    targets = {head: target[fitted.held] for head, target in task.targets.items()}
    groups = task.groups[fitted.held]
    batcher = Batcher(exact(fitted.network), 1)
    by_torch = model.probabilities(model.vectorise(texts, batcher.map))
    batcher.close()
    raw = model.predict_proba(texts)
    factors = {head: _fit_weights([p], targets[head]) for head, p in raw.items()}
    crossed = {head: _crossed([p], targets[head], groups) for head, p in raw.items()}
    scale = plain[0]
    for head, of in columns(task.taxonomy).items():
        scale[of] = factors[head][0]
    model = replace(model, scale=scale)
    how: dict[str, Any] = {"bert": config.settings(), "curve": fitted.curve}
    how |= {"int8": _compare(by_torch, raw, targets), "taught": fitted.taught}
    if linear is None:
        return model, crossed, fitted.held, how
    progress("fitting TF-IDF")
    other, out_of_fold = linear()
    both = {head: [out_of_fold[head][fitted.held], blend([p], factors[head])] for head, p in raw.items()}
    how["weights"] = weights = {head: _fit_weights(parts, targets[head]) for head, parts in both.items()}
    how["parts"] = {
        "tfidf": _figures({head: parts[0] for head, parts in both.items()}, targets),
        "bert": _figures(crossed, targets),
    }
    crossed = {head: _crossed(parts, targets[head], groups) for head, parts in both.items()}
    return BlendModel(task.taxonomy, (other, model), weights), crossed, fitted.held, how


def _compare(
    exact: Mapping[str, FloatArray], int8: Mapping[str, FloatArray], targets: Mapping[str, IntArray]
) -> dict[str, dict[str, float]]:
    """What int8 costs on each head against the torch network: largest difference of a probability, and macro-F1."""
    report = {}
    for head, before in exact.items():
        after, known = int8[head], targets[head] >= 0
        report[head] = {"max_difference": round(float(np.abs(before - after).max()), 4)}
        if known.any():
            torch, integer = (macro_f1(p[known], targets[head][known]) for p in (before, after))
            report[head] |= {"macro_f1_torch": torch, "macro_f1_int8": integer, "macro_f1_difference": integer - torch}
    return {head: {name: round(value, 4) for name, value in figures.items()} for head, figures in report.items()}


def _figures(probabilities: Mapping[str, FloatArray], targets: Mapping[str, IntArray]) -> dict[str, dict[str, float]]:
    """Figures of one part of a blend, on the rows that the blend's are taken on."""
    known = {head: target >= 0 for head, target in targets.items()}
    return {h: summarise(p[known[h]], targets[h][known[h]]) for h, p in probabilities.items() if known[h].any()}


def _fit_weights(parts: Sequence[FloatArray], target: IntArray) -> tuple[float, ...]:
    known = target >= 0
    return fit_weights([p[known] for p in parts], target[known]) if known.any() else (1.0, *(0.0 for _ in parts[1:]))


def _crossed(parts: Sequence[FloatArray], target: IntArray, groups: IntArray) -> FloatArray:
    """The blend's probabilities with weights that were fitted without the row, for honest figures."""
    out = np.zeros_like(parts[0])
    splitter = GroupKFold(min(_FOLDS, len(np.unique(groups))), shuffle=True, random_state=0)
    for train, test in splitter.split(groups, groups=groups):
        weights = _fit_weights([p[train] for p in parts], target[train])
        out[test] = blend([p[test] for p in parts], weights)
    return out
