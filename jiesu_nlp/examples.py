"""Training examples: read from tables, checked against a label set."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jiesu_nlp.errors import InvalidTextError, TrainingDataError, UnknownLabelError
from jiesu_nlp.models.base import IntArray
from jiesu_nlp.tables import cells_of, guess_columns, ids_of, read_table, texts_of
from jiesu_nlp.taxonomy import Taxonomy, quoted
from jiesu_nlp.text import check_text

TAUGHT_WEIGHT = 0.5
"""How much an unlabelled text counts that learns a teacher's probabilities."""


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
        self.source += [_name(path)] * rows
        for head in dict.fromkeys([*self.labels, *columns.labels]):
            held = self.labels.setdefault(head, [None] * before)
            held += cells_of(frame, columns.labels[head]) if head in columns.labels else [None] * rows

    def add_unlabelled(self, path: str | Path, text: Sequence[str] = ()) -> None:
        """Append the texts of one table, whatever labels it has, for a teacher to label."""
        frame = read_table(path)
        columns = guess_columns(frame.columns, text)
        texts = [t for t in texts_of(frame, columns) if _text_problem(t) is None]
        self.texts += texts
        self.ids += [f"{_name(path)}:{i}" for i in range(len(texts))]
        self.weight += [TAUGHT_WEIGHT] * len(texts)
        self.source += [_name(path)] * len(texts)
        for values in self.labels.values():
            values += [None] * len(texts)


def _name(path: str | Path) -> str:
    """A file's name, which on Linux may hold bytes that are no text."""
    return Path(path).name.encode("utf-8", "replace").decode()


def fingerprint(examples: Examples) -> str:
    """SHA-256 of texts and labels, first 16 hex digits; says whether two runs saw the same data."""
    content = [examples.texts, sorted(examples.labels.items()), examples.weight]
    return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()[:16]


def scheme_of(examples: Examples, taxonomy: Taxonomy | None) -> Taxonomy:
    """The label sets to train: the heads that the examples have, of a taxonomy or of their own values.

    Raises:
        TrainingDataError: no label column, or one that the given taxonomy lacks.
    """
    filled = {
        h: {v for v in values if v is not None} for h, values in examples.labels.items() if h not in ("second", "co")
    }
    values = {head: cells for head, cells in filled.items() if cells}
    known = taxonomy or Taxonomy.load()
    if not values:
        raise TrainingDataError("no column of labels was found, or none with a label in it; name one with --label")
    own = {head: cells for head, cells in values.items() if head not in known.heads}
    if own and taxonomy is not None:
        raise TrainingDataError(f"taxonomy {known.name!r} has no head {', '.join(own)}")
    ad_hoc = Taxonomy.from_values(own)
    if len(own) == len(values):
        return ad_hoc
    heads = {head: labels for head, labels in known.heads.items() if head in values} | dict(ad_hoc.heads)
    return Taxonomy(known.name, known.version, heads, known.aliases, known.mapping)


def check(examples: Examples, scheme: Taxonomy) -> tuple[dict[str, IntArray], list[str]]:
    """Targets of each head, and warnings.

    Raises:
        TrainingDataError: rows that cannot be trained on, each with its reason.
    """
    problems = [
        f"{_where(examples, i)}: {error}"
        for i, text in enumerate(examples.texts)
        if (error := _text_problem(text)) is not None
    ]
    targets: dict[str, IntArray] = {}
    warnings: list[str] = []
    for head in scheme.heads:
        target, unknown = target_of(examples, scheme, head)
        problems += unknown
        counts = np.bincount(target + 1, minlength=len(scheme.codes(head)) + 1)[1:]
        for code, n in zip(scheme.codes(head), counts, strict=True):
            if n == 1:
                row = int(np.flatnonzero(target == scheme.codes(head).index(code))[0])
                problems.append(
                    f"{_where(examples, row)}: the only row of {head} {quoted(code)}; add rows or merge the class"
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


def target_of(examples: Examples, scheme: Taxonomy, head: str, column: str | None = None) -> tuple[IntArray, list[str]]:
    """Code positions of a head's cells, -1 where empty, and a line for each unknown label."""
    position: dict[str, int] = {}
    refused: dict[str, str] = {}
    unknown: list[str] = []
    target = np.full(len(examples.texts), -1, np.int64)
    for row, value in enumerate(examples.labels[column or head]):
        if value is not None and value not in position and value not in refused:
            try:
                position[value] = scheme.codes(head).index(scheme.resolve(head, value))
            except UnknownLabelError as error:
                refused[value] = str(error)
        if value in refused:
            unknown.append(f"{_where(examples, row)}: {refused[value]}")
        elif value is not None:
            target[row] = position[value]
    return target, unknown
