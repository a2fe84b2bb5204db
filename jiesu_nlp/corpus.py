"""A corpus to pre-train on: its sources, cut into blocks of tokens, mixed by weight."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import TrainingDataError
from jiesu_nlp.models.wordpiece import readable
from jiesu_nlp.segment import segment_at
from jiesu_nlp.tables import guess_columns, read_table, read_text, texts_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

IntArray = NDArray[np.int32]
_MOST = 100
"""Largest weight of a source: more passes than that teach nothing."""


@dataclass(frozen=True)
class Source:
    """One part of the corpus: its texts, and how many times each is read in an epoch (0.4, 1, 4 …)."""

    name: str
    texts: Sequence[str]
    weight: float = 1.0


def read_source(name: str, text: Sequence[str] = ()) -> Source:
    """A part of the corpus from ``FILE`` or ``FILE*WEIGHT``: a text a line of a .txt, or the rows of a table.

    Args:
        text: text columns of a table; guessed by default.

    Raises:
        TableError: it cannot be read. TrainingDataError: the weight is no number above 0.
    """
    path, star, factor = name.rpartition("*")
    file = Path(path if star else name)
    try:
        weight = float(factor) if star else 1.0
    except ValueError:
        weight = 0.0
    if not 0 < weight <= _MOST:
        raise TrainingDataError(f"{file.name}: the weight behind * must be a number up to {_MOST}, such as 4 or 0.5")
    if file.suffix.lower() == ".txt":
        texts = read_text(file).splitlines()
    else:
        frame = read_table(file)
        texts = texts_of(frame, guess_columns(frame.columns, text))
    return Source(file.name, [line for line in texts if line.strip()], weight)


def blocks(texts: Iterable[str], tokenizer: "Tokenizer", length: int, first: int, last: int) -> tuple[IntArray, Any]:
    """Texts one after the other, `last` behind each, cut into blocks that begin with `first`.

    Returns:
        Token ids, shape (n, length), and where a word begins, bool of the same shape.
    """
    ids: list[NDArray[Any]] = []
    starts: list[NDArray[Any]] = []
    batch: list[str] = []

    def flush() -> None:
        for text, encoded in zip(batch, tokenizer.encode_batch(batch, add_special_tokens=False), strict=True):
            begins = np.ones(len(text) + 1, bool)
            for at, word in segment_at(text):
                begins[at + 1 : at + len(word)] = False
            offsets = np.array([start for start, _ in encoded.offsets], np.int64)
            ids.append(np.append(np.array(encoded.ids, np.int32), np.int32(last)))
            starts.append(np.append(begins[offsets], True))
        batch.clear()

    for text in texts:
        batch.append(readable(text))
        if len(batch) >= 256:
            flush()
    flush()
    room = length - 1
    stream = np.concatenate(ids) if ids else np.zeros(0, np.int32)
    n = len(stream) // room
    body = stream[: n * room].reshape(n, room)
    begin = np.concatenate(starts)[: n * room].reshape(n, room) if ids else np.zeros((0, room), bool)
    return (
        np.hstack([np.full((n, 1), first, np.int32), body]),
        np.hstack([np.ones((n, 1), bool), begin]),
    )


def mix(parts: Sequence[int], weights: Sequence[float], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which blocks to learn from in an epoch, each as often as its source's weight says, and which to hold out.

    Args:
        parts: number of blocks of each source; all sources' blocks are numbered one after the other.

    Returns:
        Numbers of blocks to learn from, some more than once, and of one in a hundred of each source, held out.
    """
    rng = np.random.default_rng(seed)
    train, held = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    first = 0
    for number, weight in zip(parts, weights, strict=True):
        order = first + rng.permutation(number)
        first += number
        aside = max(1, number // 100) if number else 0
        kept = order[aside:]
        held.append(order[:aside])
        train += [kept] * int(weight)
        train.append(kept[: round((weight - int(weight)) * len(kept))])
    return np.concatenate(train), np.concatenate(held)
