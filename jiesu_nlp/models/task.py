"""What an encoder is to learn: which rows, which probabilities, and how much each counts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jiesu_nlp.errors import TrainingDataError
from jiesu_nlp.models.base import FloatArray, IntArray, Model, columns, width
from jiesu_nlp.taxonomy import Taxonomy


@dataclass(frozen=True)
class Task:
    """Texts and what is known of them; all of length n.

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

    @property
    def width(self) -> int:
        """Number of codes of all heads."""
        return width(self.taxonomy)


@dataclass(frozen=True)
class Lesson:
    """A task as an encoder is taught it.

    Attributes:
        train, held: rows to learn from, and rows to judge by.
        soft: probabilities to learn, all heads side by side, shape (n, columns); zeros where a label is missing.
        strength: how much each of them counts, of the same shape.
        taught: number of the rows to learn from that a teacher labelled.
    """

    train: IntArray
    held: IntArray
    soft: FloatArray
    strength: FloatArray
    taught: int

    @property
    def fingerprint(self) -> str:
        """The same for the same rows, labels and weights."""
        parts = (self.train, self.held, self.soft, self.strength)
        return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()[:16]


def prepare_lesson(task: Task, held_out: float, class_weights: bool, seed: int) -> Lesson:
    """Hold rows out, let the teacher label what has no label, and weigh the rest.

    Args:
        held_out: share of the near-copy groups that is held out, as a whole.
        class_weights: weigh a class by the inverse square root of its rows.

    Raises:
        TrainingDataError: the teacher has other labels, or too few different texts to hold any out.
    """
    train, held = _hold_out(task, held_out, seed)
    soft = np.zeros((len(task.texts), task.width), np.float32)
    strength = np.zeros_like(soft)
    for head, of in columns(task.taxonomy).items():
        target = task.targets[head]
        known = np.flatnonzero(target >= 0)
        soft[known, of.start + target[known]] = 1
        strength[known, of] = task.weights[known, None]
        if class_weights:
            counts = np.bincount(target[np.intersect1d(known, train)], minlength=of.stop - of.start)
            rarity = 1 / np.sqrt(np.maximum(counts, 1))
            rarity *= counts.sum() / max((counts * rarity).sum(), 1e-9)  # the mean row weighs as before
            strength[known, of] *= rarity[target[known], None].astype(np.float32)
    taught = train[train >= task.own]
    if len(taught):
        soft[taught] = _ask_teacher(task, taught)
        strength[taught] = task.weights[taught, None]
    return Lesson(train, held, soft, strength, len(taught))


def _hold_out(task: Task, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Rows to learn from and rows to hold out: labelled rows of full weight, in whole groups.

    An unlabelled near-copy of a row held out is in neither.
    """
    labelled = np.any([target >= 0 for target in task.targets.values()], axis=0)
    labelled &= (task.weights >= 1) & (np.arange(len(task.texts)) < task.own)
    candidates = np.unique(task.groups[labelled])
    number = round(share * len(candidates))
    if number < 2 or number == len(candidates):
        raise TrainingDataError(f"{len(candidates)} different texts are too few to hold any out; add labelled rows")
    chosen = np.random.default_rng(seed).choice(candidates, number, replace=False)
    aside = np.isin(task.groups, chosen)
    return np.flatnonzero(~aside), np.flatnonzero(aside & labelled)


def check_teacher(task: Task) -> None:
    """Check that the teacher knows the labels.

    Raises:
        TrainingDataError: it has others.
    """
    if task.teacher is None:
        return
    known = task.teacher.taxonomy
    for head in task.taxonomy.heads:
        if head not in known.heads or known.codes(head) != task.taxonomy.codes(head):
            raise TrainingDataError(f"the teacher has other labels for {head}; train it on the same label set")


def _ask_teacher(task: Task, rows: IntArray) -> FloatArray:
    """The teacher's probabilities, heads side by side, shape (rows, columns)."""
    assert task.teacher is not None  # rows without labels come with one
    said = task.teacher.predict_proba([task.texts[i] for i in rows])
    return np.hstack([said[head] for head in task.taxonomy.heads])
