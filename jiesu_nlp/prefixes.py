"""Where regular expressions can begin: at each place of a text, which of many patterns could match here.

For every pattern the characters are known that its matches can have first, second and third. A pattern is
tried only where all three fit, which finds the same matches as searching with it, many times as fast.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DEPTH = 3
_OTHER = 0x10000
"""Stands for what is outside the basic plane, and for the end of the text."""
_ANY_DIGIT = -1
_MOST = 64

Characters = set[int] | None
"""Code points, or ``None`` for any."""


class Starts:
    """Finds the matches of up to 64 patterns in a text."""

    def __init__(self, patterns: Sequence[re.Pattern[str]]) -> None:
        """Read the patterns' beginnings.

        Raises:
            ValueError: there are more than 64, or one matches an empty text.
        """
        if len(patterns) > _MOST:
            raise ValueError(f"{len(patterns)} patterns; at most {_MOST} can be looked for at once")
        if empty := [pattern.pattern for pattern in patterns if pattern.match("")]:
            raise ValueError(f"{empty[0]!r} matches an empty text, which stands everywhere")
        self._patterns = patterns
        # A bit a pattern, for each of the first characters that a match can have.
        self._tables = np.zeros((_DEPTH, _OTHER + 1), np.uint64)
        for number, pattern in enumerate(patterns):
            bit = np.uint64(1 << number)
            for table, characters in zip(self._tables, begins(pattern), strict=True):
                table[slice(None) if characters is None else _codes(characters)] |= bit

    def find(self, text: str) -> Iterator[tuple[int, re.Match[str]]]:
        """Every match, as `re.Pattern.finditer` of each pattern would give it, by pattern and then position."""
        for number, places in sorted(self._tries(text).items()):
            match, end = self._patterns[number].match, 0
            for at in places:
                if at >= end and (found := match(text, at)):
                    end = found.end()
                    yield number, found

    def _tries(self, text: str) -> dict[int, list[int]]:
        """Places where each pattern may begin; others have none."""
        codes = np.full(len(text) + _DEPTH, _OTHER, np.uint32)
        codes[: len(text)] = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        np.minimum(codes, _OTHER, out=codes)
        fits: NDArray[np.uint64] = self._tables[0][codes[: len(text)]]
        for depth in range(1, _DEPTH):
            fits &= self._tables[depth][codes[depth : depth + len(text)]]
        places = np.flatnonzero(fits)
        tries: dict[int, list[int]] = {}
        for at, bits in zip(places.tolist(), fits[places].tolist(), strict=True):
            while bits:
                number = (bits & -bits).bit_length() - 1
                bits &= bits - 1
                tries.setdefault(number, []).append(at)
        return tries


def _codes(characters: set[int]) -> list[int]:
    digits = _digits() if _ANY_DIGIT in characters else ()
    return [*(min(code, _OTHER) for code in characters if code >= 0), *digits, _OTHER]


@cache
def _digits() -> tuple[int, ...]:
    """The decimal digits of the basic plane."""
    return tuple(code for code in range(_OTHER) if chr(code).isdecimal())


def begins(pattern: re.Pattern[str]) -> list[Characters]:
    """What the first characters of a match can be, or more than that: one set for each of three places."""
    found: list[Characters] = [set() for _ in range(_DEPTH)]
    try:
        # The parser is not a public part of Python; where it is not as known here, anything may begin.
        parsed = list(re._parser.parse(pattern.pattern, pattern.flags))  # type: ignore[attr-defined]
        ends = _walk(parsed, {0}, found)
    except (AttributeError, NotImplementedError, TypeError):
        return [None] * _DEPTH
    for place in range(min(ends), _DEPTH):
        found[place] = None  # a match may be over by then
    return found


def _walk(items: Iterable[tuple[Any, Any]], at: set[int], found: list[Characters]) -> set[int]:
    """Put down what the items can match, beginning at any of some places; return the places behind them."""
    for operation, argument in items:
        match str(operation):
            case "LITERAL":
                at = _put({argument}, at, found)
            case "ANY" | "NOT_LITERAL":
                at = _put(None, at, found)
            case "IN":
                at = _put(_members(argument), at, found)
            case "BRANCH":
                at = set().union(*(_walk(branch, at, found) for branch in argument[1]))
            case "SUBPATTERN":
                at = _walk(argument[-1], at, found)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, part = argument
                behind = set(at) if least == 0 else set()
                for times in range(1, min(int(most), int(least) + _DEPTH) + 1):
                    at = _walk(part, at, found)
                    behind |= at if times >= least else set()
                at = behind
            case "ASSERT" | "ASSERT_NOT" | "AT":
                pass  # they only narrow what can stand here
            case other:
                raise NotImplementedError(other)
    return at


def _put(characters: Characters, at: set[int], found: list[Characters]) -> set[int]:
    for place in at - {_DEPTH}:
        known = found[place]
        found[place] = None if known is None or characters is None else known | characters
    return {min(place + 1, _DEPTH) for place in at}


def _members(members: Sequence[tuple[Any, Any]]) -> Characters:
    found: set[int] = set()
    for operation, argument in members:
        match str(operation):
            case "LITERAL":
                found.add(argument)
            case "RANGE":
                found.update(range(argument[0], argument[1] + 1))
            case "CATEGORY" if str(argument) == "CATEGORY_DIGIT":
                found.add(_ANY_DIGIT)
            case _:
                return None
    return found
