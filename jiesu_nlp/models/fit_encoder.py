"""From a fine-tuned network to a model that can be saved: exported, checked, calibrated, perhaps blended."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold

from jiesu_nlp.errors import TrainingDataError
from jiesu_nlp.extras import need
from jiesu_nlp.metrics import macro_f1, summarise
from jiesu_nlp.models.base import FloatArray, IntArray, Model, columns, softmax
from jiesu_nlp.models.batcher import Batcher
from jiesu_nlp.models.bert import BertModel
from jiesu_nlp.models.blend import BlendModel, blend, fit_weights
from jiesu_nlp.models.fit_bert import FineTuneConfig
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.taxonomy import Taxonomy

_FOLDS = 5


@dataclass(frozen=True)
class Task:
    """What there is to learn; all of length n.

    Attributes:
        targets: ``{head: (n,)}`` positions of the codes, -1 where a label is missing.
        groups: near-copy groups. weights: weight of each text.
        own: rows from this one on are unlabelled, for `teacher` to label.
    """

    texts: Sequence[str]
    targets: Mapping[str, IntArray]
    taxonomy: Taxonomy
    groups: IntArray
    weights: FloatArray
    own: int
    teacher: Model | None = None


def fit_encoder(
    task: Task,
    config: FineTuneConfig,
    out: Path,
    linear: tuple[TfidfModel, Mapping[str, FloatArray]] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> tuple[Model, dict[str, FloatArray], IntArray, dict[str, Any]]:
    """Fine-tune, export to int8, calibrate; blend with a TF-IDF model where one is given.

    Args:
        out: checkpoints are kept in it until the run is through.
        linear: TF-IDF model and its out-of-fold probabilities of the own rows.

    Returns:
        The model; ``{head: (rows, k)}`` of the rows held out; their numbers; what was done, JSON-ready.

    Raises:
        MissingExtraError: torch, transformers, datasets or onnx is not installed.
        TrainingDataError: the teacher has other labels, or too few rows.
    """
    need("bert", "torch", "transformers", "datasets", "accelerate", "onnx", "onnxscript", "onnxruntime", "tokenizers")
    from jiesu_nlp.models.export_bert import to_int8, to_onnx
    from jiesu_nlp.models.fit_bert import fit

    taught = _taught(task, progress)
    work = out / "checkpoints"
    data = (task.texts, task.targets, task.taxonomy, task.groups, task.weights)
    fitted = fit(*data, config, work, taught, progress)
    progress("exporting to int8")
    network = to_int8(to_onnx(fitted.network))
    width = sum(map(len, task.taxonomy.heads.values()))
    plain = np.ones(width, np.float32), np.zeros(width, np.float32)
    model = BertModel(task.taxonomy, network, fitted.tokenizer, *plain, config.reading)
    held_texts = [task.texts[i] for i in fitted.held]
    held_targets = {head: target[fitted.held] for head, target in task.targets.items()}
    logits = model.logits(model.vectorise(held_texts))
    exact = model.logits(model.vectorise(held_texts, Batcher(_torch(fitted.network), 0, 1).map))
    compared = _compare(exact, logits, held_targets, columns(task.taxonomy))
    scale = plain[0].copy()
    for head, of in columns(task.taxonomy).items():
        known = held_targets[head] >= 0
        if known.any():
            scale[of] = _temperature(logits[known][:, of], held_targets[head][known])
    model = replace(model, scale=scale)
    probabilities = model.probabilities(model.vectorise(held_texts))
    how: dict[str, Any] = {"bert": asdict(config) | {"base": Path(config.base).name}}
    how |= {"int8": compared, "curve": fitted.curve, "taught": len(taught)}
    shutil.rmtree(work, ignore_errors=True)
    if linear is None:
        return model, probabilities, fitted.held, how
    other, out_of_fold = linear
    both = {head: [out_of_fold[head][fitted.held], p] for head, p in probabilities.items()}
    weights = {head: _fit_weights(parts, held_targets[head]) for head, parts in both.items()}
    crossed = {head: _crossed(parts, held_targets[head], task.groups[fitted.held]) for head, parts in both.items()}
    parts = zip(("tfidf", "bert"), zip(*both.values(), strict=True), strict=True)
    how |= {"weights": weights}
    how["parts"] = {name: _figures(dict(zip(both, ps, strict=True)), held_targets) for name, ps in parts}
    return BlendModel(task.taxonomy, (other, model), weights), crossed, fitted.held, how


def _taught(task: Task, progress: Callable[[str], None]) -> dict[int, FloatArray]:
    """The teacher's probabilities of the unlabelled rows, heads side by side."""
    rows = range(task.own, len(task.texts))
    if not rows:
        return {}
    if task.teacher is None:
        raise TrainingDataError("unlabelled tables need a teacher; name a model folder with --teacher")
    for head in task.taxonomy.heads:
        if head not in task.teacher.taxonomy.heads or task.teacher.taxonomy.codes(head) != task.taxonomy.codes(head):
            raise TrainingDataError(f"the teacher has other labels for {head}; train it on the same label set")
    progress(f"the teacher reads {len(rows)} texts")
    said = task.teacher.predict_proba([task.texts[i] for i in rows])
    side_by_side = np.hstack([said[head] for head in task.taxonomy.heads])
    return dict(zip(rows, side_by_side, strict=True))


def _torch(network: Any) -> Callable[[Any, Any], list[FloatArray]]:
    """The torch network as a `Batcher` runs one."""
    import torch

    network.encoder.set_attn_implementation("sdpa")  # as it was trained; the exporter changed it
    device = next(network.parameters()).device

    def run(ids: Any, mask: Any) -> list[FloatArray]:
        with torch.no_grad():
            logits = network(*(torch.from_numpy(array).to(device) for array in (ids, mask))).float().cpu().numpy()
        return [row[: int(real.sum())] for row, real in zip(logits, mask, strict=True)]

    return run


def _compare(
    full: FloatArray, int8: FloatArray, targets: Mapping[str, IntArray], heads: Mapping[str, slice]
) -> dict[str, dict[str, float]]:
    """What int8 costs on each head against the torch network: largest difference of a probability, and macro-F1."""
    report = {}
    for head, of in heads.items():
        before, after, known = softmax(full[:, of]), softmax(int8[:, of]), targets[head] >= 0
        report[head] = {"max_difference": round(float(np.abs(before - after).max()), 4)}
        if known.any():
            for name, p in (("macro_f1_torch", before), ("macro_f1_int8", after)):
                report[head][name] = round(macro_f1(p[known], targets[head][known]), 4)
    return report


def _figures(probabilities: Mapping[str, FloatArray], targets: Mapping[str, IntArray]) -> dict[str, dict[str, float]]:
    """Figures of one part of a blend, on the rows that the blend's are taken on."""
    known = {head: target >= 0 for head, target in targets.items()}
    return {h: summarise(p[known[h]], targets[h][known[h]]) for h, p in probabilities.items() if known[h].any()}


def _temperature(logits: FloatArray, target: IntArray) -> float:
    """Factor on the logits with the least cross-entropy (Guo et al. 2017, whose temperature is its inverse)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    n = np.arange(len(target))
    found = minimize_scalar(
        lambda factor: -log_softmax(factor * logits.astype(np.float64), axis=1)[n, target].mean(),
        bounds=(0.1, 5.0),
        method="bounded",
    )
    return float(found.x)


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
