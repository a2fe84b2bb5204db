"""Counting the words and character n-grams of many texts at once: compiled, or else in numpy."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp import native
from jiesu_nlp.features import FeatureConfig, collapse, districts, prepare
from jiesu_nlp.segment import compiled, segment
from jiesu_nlp.text import lead

IntArray = NDArray[np.int64]
_BITS = 21
"""A code point and one, so that a NUL is not nothing, has at most 21 bits: three of them fit a number."""


class Counter:
    """Counts the entries of a vocabulary in texts."""

    def __init__(self, words: Sequence[str], chars: Sequence[str], config: FeatureConfig) -> None:
        """Numbers are those of the entries: words first, then n-grams."""
        self._words, self._chars, self._config = words, chars, config
        self._features = len(words) + len(chars)

    @cached_property
    def _compiled(self) -> native.Counter:
        lengths = self._config.char_min, self._config.char_max
        return native.Counter(self._words, self._chars, districts(), lengths, self._config.lead_weight)

    @cached_property
    def _number(self) -> Mapping[str, int]:
        return {word: i for i, word in enumerate(self._words)}

    @cached_property
    def _known(self) -> tuple[NDArray[np.uint64], IntArray]:
        """Keys of the n-grams in ascending order, and the number of each."""
        lengths = np.array([len(gram) for gram in self._chars], np.int64)
        starts = np.cumsum(lengths) - lengths
        codes = _codes("".join(self._chars))
        keys = np.zeros(len(lengths), np.uint64)
        for n in np.unique(lengths).tolist():
            keys[lengths == n] = _keys(codes, n)[starts[lengths == n]]
        order = np.argsort(keys)
        return keys[order], order + len(self._words)

    def count(self, texts: Sequence[str]) -> tuple[IntArray, NDArray[np.int32], NDArray[np.float64]]:
        """Where each text's entries begin, shape (n + 1,); the entries, ascending a text; their counts.

        A feature in the lead counts `lead_weight` times in all, as in `features.count_features`.
        """
        return self._compiled.count(compiled(), texts) if native.library() else self.count_in_numpy(texts)

    def count_in_numpy(self, texts: Sequence[str]) -> tuple[IntArray, NDArray[np.int32], NDArray[np.float64]]:
        """`count` as it is done where there is no compiled part."""
        prepared = [prepare(text) for text in texts]
        leads = [lead(text) for text in prepared]
        number: list[int] = []
        weight: list[float] = []
        size: list[int] = []
        for text, first in zip(prepared, leads, strict=True):
            before = len(number)
            for part, times in ((text, 1.0), (first, self._config.lead_weight - 1.0)):
                found = [i for word in segment(part) if (i := self._number.get(word)) is not None]
                number += found
                weight += [times] * len(found)
            size.append(len(number) - before)
        words = np.repeat(np.arange(len(texts)), size), np.array(number, np.int64), np.array(weight)
        grams = self._grams([collapse(text) for text in prepared], 1.0)
        more = self._grams([collapse(text) for text in leads], self._config.lead_weight - 1.0)
        rows = np.concatenate([words[0], grams[0], more[0]])
        numbers = np.concatenate([words[1], grams[1], more[1]])
        weights = np.concatenate([words[2], grams[2], more[2]])
        cell, where = np.unique(rows * self._features + numbers, return_inverse=True)
        counts = np.bincount(where, weights=weights, minlength=len(cell))
        begins = np.searchsorted(cell // self._features, np.arange(len(texts) + 1))
        return begins, (cell % self._features).astype(np.int32), counts.astype(np.float64)

    def _grams(self, texts: Sequence[str], weight: float) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
        lengths = np.array([len(text) for text in texts], np.int64)
        codes = _codes("".join(texts))
        row = np.repeat(np.arange(len(texts)), lengths)
        end = np.repeat(np.cumsum(lengths), lengths)
        known, entry = self._known
        rows, numbers = [], []
        for n in range(self._config.char_min, self._config.char_max + 1):
            inside = np.flatnonzero(np.arange(len(codes)) + n <= end)
            keys, where = np.unique(_keys(codes, n)[inside], return_inverse=True)
            position = np.minimum(np.searchsorted(known, keys), max(len(known) - 1, 0))
            found = known[position] == keys if len(known) else np.zeros(len(keys), bool)
            kept = found[where]
            rows.append(row[inside][kept])
            numbers.append(entry[position[where[kept]]] if len(known) else np.zeros(0, np.int64))
        all_rows = np.concatenate(rows)
        return all_rows, np.concatenate(numbers), np.full(len(all_rows), weight)


def _codes(text: str) -> NDArray[np.uint64]:
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return points.astype(np.uint64) + np.uint64(1)


def _keys(codes: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """A number for the n-gram that begins at each position; those that run past the end mean nothing."""
    keys = codes.copy()
    for k in range(1, n):
        keys[: len(codes) - k] |= codes[k:] << np.uint64(_BITS * k)
    return keys
