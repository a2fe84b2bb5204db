"""The training job: tables in, a model folder out. Same tables and seed, same bytes."""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import InvalidTextError, TrainingDataError, UnknownLabelError
from jiesu_nlp.metrics import abstain_threshold, assist_threshold, summarise
from jiesu_nlp.model_card import model_card
from jiesu_nlp.models.fit_tfidf import FitConfig, describe, fit
from jiesu_nlp.models.tfidf import FloatArray, TfidfModel
from jiesu_nlp.neardup import near_duplicate_groups
from jiesu_nlp.recurrence import LEVELS, fit_text
from jiesu_nlp.tables import cells_of, guess_columns, ids_of, read_table, texts_of
from jiesu_nlp.taxonomy import Taxonomy
from jiesu_nlp.text import check_text

IntArray = NDArray[np.int64]

TARGET_ACCURACY = 0.9
"""Accuracy that the answers which are not sent to review are to reach, on held-out data."""


@dataclass
class Examples:
    """Training examples: texts with one label (or ``None``) a head.

    Attributes:
        labels: ``{head: [value or None]}``, raw cell values.
        weight: how much each example counts. source: the file that it came from.
    """

    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    labels: dict[str, list[str | None]] = field(default_factory=dict)
    weight: list[float] = field(default_factory=list)
    source: list[str] = field(default_factory=list)

    def add_table(
        self, path: str | Path, text: Sequence[str] = (), labels: Sequence[str] = (), weight: float = 1.0
    ) -> None:
        """Append the rows of one table (see `tables.guess_columns` for the arguments)."""
        frame = read_table(path)
        columns = guess_columns(frame.columns, text, labels)
        before, rows = len(self.texts), len(frame)
        self.texts += texts_of(frame, columns)
        self.ids += ids_of(frame, columns)
        self.weight += [weight] * rows
        self.source += [Path(path).name] * rows
        for head in set(self.labels) | set(columns.labels):
            held = self.labels.setdefault(head, [None] * before)
            held += cells_of(frame, columns.labels[head]) if head in columns.labels else [None] * rows


@dataclass(frozen=True)
class TrainingReport:
    """What a training run saw and measured. `metrics` are out-of-fold, near-copies kept together.

    Attributes:
        examples: the rows, as they were read.
        out_of_fold: ``{head: probabilities (n, k)}`` by models that have not seen the row.
        targets: ``{head: positions of the labels (n,)}``, -1 where there is none.
    """

    rows: int
    groups: int
    warnings: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, float]]
    by_source: Mapping[str, Mapping[str, Mapping[str, float]]]
    examples: Examples
    out_of_fold: Mapping[str, FloatArray]
    targets: Mapping[str, IntArray]


def train(
    tables: Sequence[str | Path] | Examples,
    out: str | Path,
    *,
    text: Sequence[str] = (),
    labels: Sequence[str] = (),
    taxonomy: Taxonomy | None = None,
    name: str = "tfidf",
    model_version: str = "1",
    config: FitConfig = FitConfig(),
    jobs: int = 1,
    progress: Callable[[str], None] = lambda message: None,
) -> TrainingReport:
    """Train a TF-IDF model on one or more tables and write it to the folder `out`.

    Heads that the taxonomy (the packaged one by default) defines are checked against it; with
    ``labels`` that it does not have, the label set is the values that stand in the columns.

    Raises:
        TableError: a table cannot be read. TrainingDataError: unknown labels, empty or unusable
            texts, or classes of one row; every row is named with its reason.
    """
    examples = tables if isinstance(tables, Examples) else Examples()
    if not isinstance(tables, Examples):
        for path in tables:
            examples.add_table(path, text, labels)
    progress("checking rows")
    scheme = _scheme(examples, taxonomy)
    targets, warnings = _check(examples, scheme)
    progress("grouping near-copies")
    groups = near_duplicate_groups(examples.texts)
    progress(f"fitting on {len(examples.texts)} texts in {len(set(groups.tolist()))} groups")
    weights = np.array(examples.weight, np.float32)
    model, out_of_fold = fit(examples.texts, targets, scheme, groups, weights, config=config, jobs=jobs)
    recurrence = None
    if scheme.heads.get("recurrence") and scheme.codes("recurrence") == LEVELS:
        p, target = out_of_fold["recurrence"], targets["recurrence"]
        recurrence, out_of_fold["recurrence"] = fit_text(p, examples.texts, target, weights, groups)
    metrics, thresholds = _measure(out_of_fold, targets, weights >= 1)
    if "co" in examples.labels and "department" in scheme.heads:
        assisting, _ = _target(examples, scheme, "department", column="co")
        read = weights >= 1
        thresholds["assisting"] = assist_threshold(out_of_fold["department"][read], assisting[read])
    source = np.array(examples.source)
    by_source = {str(s): _measure(out_of_fold, targets, source == s)[0] for s in np.unique(source)}
    meta = {
        "name": name,
        "version": model_version,
        "metrics": metrics,
        "metrics_by_source": by_source,
        "thresholds": thresholds,
        "recurrence": recurrence,
        "target_accuracy": TARGET_ACCURACY,
        "fit": describe(config),
        "data": {"rows": len(examples.texts), "groups": len(set(groups.tolist())), "sources": Counter(examples.source)}
        | {"fingerprint": fingerprint(examples)},
        "libraries": {lib: version(lib) for lib in ("numpy", "scipy", "scikit-learn", "jieba", "rjieba")}
        | {"python": platform.python_version()},
    }
    TfidfModel(**{k: getattr(model, k) for k in _MODEL_FIELDS}, meta=meta).save(str(out))
    (Path(out) / "MODEL_CARD.md").write_text(model_card(meta, scheme.to_dict()), encoding="utf-8")
    seen = (len(examples.texts), len(set(groups.tolist())), tuple(warnings))
    return TrainingReport(*seen, metrics, by_source, examples, out_of_fold, targets)


_MODEL_FIELDS = ("taxonomy", "words", "chars", "idf", "weights", "scale", "bias", "config")


def fingerprint(examples: Examples) -> str:
    """SHA-256 of texts and labels, first 16 hex digits; says whether two runs saw the same data."""
    content = [examples.texts, sorted(examples.labels.items()), examples.weight]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()[:16]


def _scheme(examples: Examples, taxonomy: Taxonomy | None) -> Taxonomy:
    heads = [h for h in examples.labels if h not in ("second", "co")]
    known = taxonomy or Taxonomy.load()
    if not heads:
        raise TrainingDataError("no label column was found; name one with --label")
    if all(h in known.heads for h in heads):
        chosen = {h: labels for h, labels in known.heads.items() if h in heads}
        return Taxonomy(known.name, known.version, chosen, known.aliases, known.mapping)
    if taxonomy is not None:
        missing = [h for h in heads if h not in known.heads]
        raise TrainingDataError(f"taxonomy {known.name!r} has no head {', '.join(missing)}")
    return Taxonomy.from_values({h: [v for v in examples.labels[h] if v is not None] for h in heads})


def _check(examples: Examples, scheme: Taxonomy) -> tuple[dict[str, IntArray], list[str]]:
    """Targets of each head and warnings; refuses with every unusable row and its reason."""
    problems = [
        f"{_where(examples, i)}: {error}"
        for i, text in enumerate(examples.texts)
        if (error := _text_problem(text)) is not None
    ]
    targets: dict[str, IntArray] = {}
    warnings: list[str] = []
    for head in scheme.heads:
        target, unknown = _target(examples, scheme, head)
        problems += unknown
        counts = np.bincount(target + 1, minlength=len(scheme.codes(head)) + 1)[1:]
        for code, n in zip(scheme.codes(head), counts, strict=True):
            if n == 1:
                row = int(np.flatnonzero(target == scheme.codes(head).index(code))[0])
                problems.append(
                    f"{_where(examples, row)}: the only row of {head} {code!r}; add rows or merge the class"
                )
            elif n == 0:
                warnings.append(f"{head} {code!r} has no row and will never be predicted")
        targets[head] = target
    if problems:
        shown = "\n".join(problems[:20]) + (f"\n… and {len(problems) - 20} more" if len(problems) > 20 else "")
        raise TrainingDataError(f"{len(problems)} rows cannot be trained on:\n{shown}")
    return targets, warnings


def _where(examples: Examples, row: int) -> str:
    return f"{examples.source[row]} row {examples.ids[row]}"


def _text_problem(text: str) -> InvalidTextError | None:
    try:
        check_text(text)
    except InvalidTextError as error:
        return error
    return None


def _target(examples: Examples, scheme: Taxonomy, head: str, column: str | None = None) -> tuple[IntArray, list[str]]:
    """Code positions of a head's cells, -1 where empty, and a line for each unknown label."""
    position: dict[str, int] = {}
    unknown: list[str] = []
    target = np.full(len(examples.texts), -1, np.int64)
    for row, value in enumerate(examples.labels[column or head]):
        try:
            if value is not None and value not in position:
                position[value] = scheme.codes(head).index(scheme.resolve(head, value))
            target[row] = -1 if value is None else position[value]
        except UnknownLabelError as error:
            unknown.append(f"{_where(examples, row)}: {error}")
    return target, unknown


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
    return {"rows": report.rows, "groups": report.groups, "warnings": report.warnings, "metrics": report.metrics}
