"""The compiled part: segmentation and counting in C, called through ctypes (an encoder's: `native.encoder`).

It is built where the package is installed (``hatch_build.py``); where there was no compiler it is absent,
and its callers go the slower way, in Python and numpy, to the same answers. Texts pass as arrays of code
points; every call runs without Python's lock, so that threads work side by side.
"""

import ctypes
from array import array
from collections.abc import Iterable, Mapping, Sequence
from operator import sub
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.native.binding import address, loaded, made, required

__all__ = ["Codes", "Counter", "Linear", "Openings", "Segmenter", "codes", "fold", "loaded", "strongest"]

Codes = NDArray[np.uint32]
_STATES = "BEMS"
_FIRST, _LAST = 0x4E00, 0x9FD5
"""The characters that jieba's tagger knows."""
_NEVER = -3.14e100
_LOGS = 1 << 17
"""Counts up to which logarithms are looked up, so that they are numpy's to the last bit; no text has more."""
_ROOM = 64
"""Places that patterns may begin at for which there is room at first; few texts have more."""
_Bytes = ctypes.c_char * 0
"""Stands for bytes of any length where an address is wanted."""


def _points(text: str) -> bytes:
    return text.encode("utf-32-le", "surrogatepass")


def codes(text: str) -> Codes:
    """The code points of a text."""
    return np.frombuffer(_points(text), np.uint32)


def fold(text: str) -> str:
    """What `text.normalise` makes of a text."""
    points = bytearray(_points(text))
    required().text_fold(_Bytes.from_buffer(points), len(text))
    return points.decode("utf-32-le", "surrogatepass")


class Segmenter:
    """jieba's dictionary and tagger, with words of one's own."""

    def __init__(self, dictionary: bytes, tagger: dict[str, Any], words: Iterable[str], frequency: int) -> None:
        """Read jieba's files.

        Args:
            dictionary: ``dict.txt``. tagger: its log probabilities, ``start``, ``trans`` and ``emit``.
            words: to add, each with `frequency`, as ``Tokenizer.add_word`` would.

        Raises:
            MemoryError: there is no memory for it, or the dictionary is none of jieba's.
        """
        start = np.array([tagger["start"][state] for state in _STATES])
        step = np.array([[tagger["trans"][a].get(b, _NEVER) for b in _STATES] for a in _STATES])
        emit = np.full((_LAST - _FIRST + 1, len(_STATES)), _NEVER)
        for column, state in enumerate(_STATES):
            for character, value in tagger["emit"][state].items():
                if _FIRST <= ord(character) <= _LAST:
                    emit[ord(character) - _FIRST, column] = value
        self._lib = required()
        self.handle = made(
            self._lib.segmenter_new(address(start), address(step), address(emit), dictionary.count(b"\n"))
        )
        if self._lib.segmenter_read(self.handle, dictionary, len(dictionary)) < 0:
            raise MemoryError
        for word in words:
            if not self._lib.segmenter_add(self.handle, address(points := codes(word)), len(points), frequency, 1):
                raise MemoryError
        self._lib.segmenter_ready(self.handle)

    def words(self, text: str) -> list[tuple[int, int]]:
        """Start and end of each word of a folded text; digits and Latin letters are words too."""
        points = codes(text)
        starts, ends = np.empty((2, len(points)), np.uint32)
        found = self._lib.segmenter_words(self.handle, address(points), len(points), address(starts), address(ends))
        if found < 0:
            raise MemoryError
        return list(zip(starts[:found].tolist(), ends[:found].tolist(), strict=True))

    def __del__(self) -> None:
        if handle := self.__dict__.get("handle"):
            self._lib.segmenter_free(handle)


class Openings:
    """Looks up where patterns may begin, by strings that they begin with and strings that must follow."""

    def __init__(
        self,
        first: Mapping[str, Sequence[int]],
        later: Mapping[str, Sequence[int]],
        within: Sequence[int],
        pattern: Sequence[int],
    ) -> None:
        """Prepare for looking up.

        Args:
            first: the openings that begin with each string.
            later: those for which each string may follow, at most `within` characters behind the beginning;
                an opening with 0 needs nothing to follow.
            pattern: of which pattern each opening is one.
        """
        self._lib = required()
        strings = [string for string in first.keys() | later.keys() if string]
        self.handle = made(self._lib.vocabulary_new(*_joined(strings), len(strings)))
        self._arrays = (
            *_lists([first.get(s, ()) for s in strings]),
            *_lists([later.get(s, ()) for s in strings]),
            np.array(within, np.uint32),
            np.array(pattern, np.uint32),
        )
        self._known = (self.handle, *(array.ctypes.data for array in self._arrays), len(within))

    def find(self, text: str) -> Iterable[tuple[int, int]]:
        """Where patterns may begin, and which, by place."""
        points, room = _points(text), _ROOM
        while True:
            # Plain ctypes: for one short text, numpy's ways to an address take longer than the work.
            at, pattern = (ctypes.c_uint32 * room)(), (ctypes.c_uint32 * room)()
            found = self._lib.openings_find(*self._known, points, len(text), at, pattern, room)
            if found < 0:
                raise MemoryError
            if found <= room:
                return zip(reversed(at[:found]), reversed(pattern[:found]), strict=True)
            room = found

    def __del__(self) -> None:
        if handle := self.__dict__.get("handle"):
            self._lib.vocabulary_free(handle)


class Linear:
    """Weights of a linear map over weighed counts."""

    def __init__(self, idf: NDArray[np.float32], weights: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        """Keep the arrays: idf (features,), weights (features, columns), bias (columns,)."""
        logs = np.log(np.maximum(np.arange(_LOGS, dtype=np.float64), 1))
        single = [np.ascontiguousarray(array, np.float32) for array in (idf, weights, bias)]
        self._arrays = [single[0], logs, *single[1:]]
        idf_at, logs_at, weights_at, bias_at = (array.ctypes.data for array in self._arrays)
        self.columns = weights.shape[1]
        self.known = (idf_at, logs_at, _LOGS, weights_at, bias_at, self.columns)


class Counter:
    """A model's vocabulary: words, then n-grams of the whole, the first and the last characters, in this order."""

    def __init__(
        self,
        blocks: Sequence[Sequence[str]],
        shares: Sequence[float],
        districts: Sequence[str],
        shape: tuple[int, int, int, int],
    ) -> None:
        """Prepare for counting.

        Args:
            blocks: the four vocabularies. shares: the lengths that the blocks of a text get.
            shape: lengths of the shortest and the longest n-gram, how often the lead counts, length of an end.
        """
        self._lib = required()
        lists = [*blocks, districts]
        sizes, numbers = (address(np.array(some, np.uint32)) for some in ([*map(len, lists)], shape))
        strings = _joined([string for strings in lists for string in strings])
        self.handle = made(self._lib.counter_new(*strings, sizes, address(np.array(shares)), numbers))

    def score(self, segmenter: Segmenter, texts: Sequence[str], linear: "Linear") -> tuple[NDArray[Any], ...]:
        """Read texts and apply a linear map.

        Returns:
            Where each text's entries begin, int64 (texts + 1,); the entries, int32, ascending a text; their
            values, float32; the scores, float32 (texts, columns).
        """
        n, lengths = len(texts), array("I", map(len, texts)).tobytes()
        points = _points("".join(texts))
        room = self._lib.counter_room(self.handle, lengths, n)
        # One piece of memory for all that comes back: an address takes longer to ask for than a text to read.
        entries = 8 * (n + 1)
        values = entries + 4 * room
        scores = values + 4 * room
        memory = np.empty(scores + 4 * n * linear.columns, np.uint8)
        at, known = memory.ctypes.data, (self.handle, segmenter.handle, points, lengths, n, *linear.known)
        if not self._lib.counter_score(*known, at, at + entries, at + values, at + scores):
            raise MemoryError
        rows, rest = memory[:entries].view(np.int64), memory[scores:].view(np.float32)
        used = 4 * int(rows[-1])
        read = memory[entries:][:used].view(np.int32), memory[values:][:used].view(np.float32)
        return rows, *read, rest.reshape(n, linear.columns)

    def __del__(self) -> None:
        if handle := self.__dict__.get("handle"):
            self._lib.counter_free(handle)


def strongest(
    rows: NDArray[np.int64],
    entries: NDArray[np.int32],
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    columns: Sequence[int],
    top: int,
) -> tuple[list[list[int]], list[list[float]]]:
    """The entries, among those that have weights, that weigh most in each text's score of its column.

    Args:
        rows, entries, values: as `Counter.score` gives them. weights: shape (words, columns).
        columns: one a text.

    Returns:
        Entries, heaviest first, -1 behind a text's last, and their signed weights.
    """
    ends, n = rows.tolist(), len(columns)
    top = min(top, max(map(sub, ends[1:], ends), default=0))
    weights, (words, width) = np.ascontiguousarray(weights, np.float32), weights.shape
    # Plain ctypes where it will do, as in `Openings.find`.
    whole, size = ctypes.c_int32, n * top
    chosen, found, weight = (whole * n)(*columns), (whole * size)(), (ctypes.c_float * size)()
    at = [array.ctypes.data for array in (rows, entries, values, weights)]
    required().counter_strongest(*at[:3], n, at[3], width, chosen, words, top, found, weight)
    texts = [slice(i * top, (i + 1) * top) for i in range(n)]
    return [found[text] for text in texts], [weight[text] for text in texts]


def _joined(strings: Sequence[str]) -> tuple[Any, Any]:
    """Addresses of strings one behind the other, and of their lengths."""
    return address(codes("".join(strings))), address(np.array([len(string) for string in strings], np.uint32))


def _lists(lists: Sequence[Sequence[int]]) -> tuple[Codes, Codes]:
    """Where each list begins, and all of them one behind the other."""
    begins = np.cumsum([0, *map(len, lists)]).astype(np.uint32)
    return begins, np.array([number for some in lists for number in some], np.uint32)
