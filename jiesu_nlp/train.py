"""The training job: tables in, a model folder out. Same tables and seed, same bytes."""

import platform
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.curve import learning_curve
from jiesu_nlp.errors import TrainingDataError
from jiesu_nlp.examples import Examples, check, fingerprint, scheme_of, target_of
from jiesu_nlp.extras import need
from jiesu_nlp.metrics import abstain_threshold, assist_threshold, summarise
from jiesu_nlp.model_card import model_card
from jiesu_nlp.models.base import FloatArray, IntArray, Model
from jiesu_nlp.models.fit_bert import FineTuneConfig
from jiesu_nlp.models.fit_encoder import CHECKPOINTS, fit_encoder
from jiesu_nlp.models.fit_tfidf import FitConfig
from jiesu_nlp.models.fit_tfidf import fit as fit_tfidf
from jiesu_nlp.models.task import Task
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.neardup import near_duplicate_groups
from jiesu_nlp.recurrence import LEVELS, fit_text
from jiesu_nlp.taxonomy import Taxonomy

TARGET_ACCURACY = 0.9
"""Accuracy that the answers which are not sent to review are to reach, on held-out data."""
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "jieba", "rjieba")
_NEEDED = ("torch", "transformers", "datasets", "accelerate", "onnx", "onnxscript", "onnxruntime", "tokenizers")
_ENCODER_LIBRARIES = ("torch", "transformers", "tokenizers", "onnxruntime")


@dataclass(frozen=True)
class TrainingReport:
    """What a training run saw and measured, near-copies kept together.

    Attributes:
        examples: the rows, as they were read.
        out_of_fold: ``{head: probabilities (n, k)}`` by models that have not seen the row.
        judged: rows that `out_of_fold` holds for, shape (n,): all of them for TF-IDF, those held out for an
            encoder.
        targets: ``{head: positions of the labels (n,)}``, -1 where there is none.
        how: what was done, JSON-ready: settings; of an encoder also its curve, what int8 cost, the parts of a blend.
    """

    rows: int
    groups: int
    warnings: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, float]]
    by_source: Mapping[str, Mapping[str, Mapping[str, float]]]
    examples: Examples
    out_of_fold: Mapping[str, FloatArray]
    judged: NDArray[np.bool_]
    targets: Mapping[str, IntArray]
    how: Mapping[str, Any]


def train(
    tables: Sequence[str | Path] | Examples,
    out: str | Path,
    *,
    text: Sequence[str] = (),
    labels: Sequence[str] = (),
    taxonomy: Taxonomy | None = None,
    name: str | None = None,
    model_version: str = "1",
    kind: Literal["tfidf", "bert", "blend"] = "tfidf",
    config: FitConfig = FitConfig(),
    bert: FineTuneConfig = FineTuneConfig(),
    teacher: Model | None = None,
    unlabelled: Sequence[str | Path] = (),
    jobs: int = 1,
    progress: Callable[[str], None] = lambda message: None,
) -> TrainingReport:
    """Train a model on one or more tables and write it to the folder `out`.

    Heads that the taxonomy (the packaged one by default) defines are checked against it; with
    ``labels`` that it does not have, the label set is the values that stand in the columns.

    Args:
        kind: ``tfidf``; ``bert``, an encoder; or ``blend``, both with weights fitted on held-out rows.
        config: of the TF-IDF model. bert: of the encoder; its `base` says which one.
        teacher: a model with the same labels, whose probabilities an encoder learns on `unlabelled` tables.

    Raises:
        TableError: a table cannot be read. TrainingDataError: unknown labels, empty or unusable
            texts, or classes of one row; every row is named with its reason.
        MissingExtraError: an encoder is asked for and torch is not installed.
    """
    examples = tables if isinstance(tables, Examples) else Examples()
    if not isinstance(tables, Examples):
        for path in tables:
            examples.add_table(path, text, labels)
    own = len(examples.texts)
    if bool(unlabelled) != (teacher is not None) or (unlabelled and kind == "tfidf"):
        raise TrainingDataError("a teacher and unlabelled tables go together, and only an encoder learns from them")
    if kind != "tfidf":
        need("bert", *_NEEDED)
    progress("checking rows")
    scheme = scheme_of(examples, taxonomy)
    if unlabelled:
        examples = deepcopy(examples)  # the caller's stay as they are
    for path in unlabelled:
        examples.add_unlabelled(path, text)
    targets, warnings = check(examples, scheme)
    progress("grouping near-copies")
    groups = near_duplicate_groups(examples.texts)
    number = len(set(groups.tolist()))
    weights = np.array(examples.weight, np.float32)
    progress(f"fitting on {len(examples.texts)} texts in {number} groups")
    task = Task(examples.texts, targets, scheme, groups, weights, own, teacher)
    model, out_of_fold, judged, how = _fit(kind, task, config, bert, Path(out), jobs, progress)
    recurrence = None
    if scheme.heads.get("recurrence") and scheme.codes("recurrence") == LEVELS:
        p, target = out_of_fold["recurrence"], targets["recurrence"]
        heard = [examples.texts[i] for i in np.flatnonzero(judged)]
        recurrence, levels = fit_text(p[judged], heard, target[judged], weights[judged], groups[judged])
        p[judged] = levels
    metrics, thresholds = _measure(out_of_fold, targets, judged & (weights >= 1))
    if "co" in examples.labels and "department" in scheme.heads:
        assisting, _ = target_of(examples, scheme, "department", column="co")
        read = judged & (weights >= 1)
        thresholds["assisting"] = assist_threshold(out_of_fold["department"][read], assisting[read])
    source = np.array(examples.source)
    by_source = {str(s): _measure(out_of_fold, targets, judged & (source == s))[0] for s in np.unique(source)}
    meta = {
        "name": name or kind,
        "version": model_version,
        "metrics": metrics,
        "metrics_by_source": by_source,
        "thresholds": thresholds,
        "recurrence": recurrence,
        "target_accuracy": TARGET_ACCURACY,
        "fit": how,
        "data": {"rows": len(examples.texts), "groups": number, "sources": Counter(examples.source)}
        | {"fingerprint": fingerprint(examples), "judged": int(judged.sum())},
        "libraries": {lib: version(lib) for lib in _LIBRARIES + (_ENCODER_LIBRARIES if kind != "tfidf" else ())}
        | {"python": platform.python_version()},
    }
    model.with_meta(meta).save(str(out))
    shutil.rmtree(Path(out) / CHECKPOINTS, ignore_errors=True)
    if "curve" in how:
        names = ("loss", "eval_loss", "macro_f1", *(f"macro_f1_{head}" for head in scheme.heads))
        (Path(out) / "curve.svg").write_text(learning_curve(how["curve"], "epoch", names), encoding="utf-8")
    (Path(out) / "MODEL_CARD.md").write_text(model_card(meta, scheme.to_dict()), encoding="utf-8")
    seen = (len(examples.texts), number, tuple(warnings))
    return TrainingReport(*seen, metrics, by_source, examples, out_of_fold, judged, targets, how)


def _fit(
    kind: str,
    task: Task,
    config: FitConfig,
    bert: FineTuneConfig,
    out: Path,
    jobs: int,
    progress: Callable[[str], None],
) -> tuple[Model, dict[str, FloatArray], NDArray[np.bool_], dict[str, Any]]:
    """The model, probabilities of rows it has not seen, which rows those are, and what was done."""
    n, mine = len(task.texts), slice(task.own)

    def linear() -> tuple[TfidfModel, dict[str, FloatArray]]:
        labelled = {head: target[mine] for head, target in task.targets.items()}
        rows = (task.taxonomy, task.groups[mine], task.weights[mine])
        return fit_tfidf(task.texts[mine], labelled, *rows, config=config, jobs=jobs)

    if kind == "tfidf":
        return *linear(), np.ones(n, bool), {"tfidf": asdict(config)}
    model, held_out, held, how = fit_encoder(task, bert, out, linear if kind == "blend" else None, progress)
    out_of_fold = {head: np.zeros((n, p.shape[1]), np.float32) for head, p in held_out.items()}
    for head, p in held_out.items():
        out_of_fold[head][held] = p
    if kind == "blend":
        how["tfidf"] = asdict(config)
    return model, out_of_fold, np.isin(np.arange(n), held), how


def _measure(
    out_of_fold: Mapping[str, FloatArray], targets: Mapping[str, IntArray], rows: NDArray[np.bool_]
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Figures and abstain thresholds on these rows. Weak labels teach, they do not measure."""
    metrics: dict[str, dict[str, float]] = {}
    thresholds: dict[str, float] = {}
    for head, probabilities in out_of_fold.items():
        known = (targets[head] >= 0) & rows
        if known.any():
            metrics[head] = summarise(probabilities[known], targets[head][known])
            thresholds[head] = abstain_threshold(probabilities[known], targets[head][known], TARGET_ACCURACY)
    return metrics, thresholds


def settings(report: TrainingReport) -> dict[str, Any]:
    """JSON-ready form of a report."""
    return {"rows": report.rows, "groups": report.groups, "warnings": report.warnings, "metrics": report.metrics} | {
        name: report.how[name] for name in ("parts", "int8") if name in report.how
    }
