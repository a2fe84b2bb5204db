"""Where regular expressions can begin: at each place of a text, which of many patterns could match here.

For every alternative of a pattern it is known which one or two characters its matches begin with, and which
ones must follow within some distance. A pattern is tried only where both stand, which finds the same matches
as searching with it, many times as fast.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import cached_property
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

from jiesu_nlp import native

_DEPTH = 2
"""Longest of the strings; three characters take three times as long to prepare and find hardly more."""
_MOST = 100
"""Most pairs that one path is written out to; of one with more, the first characters only."""
_FARTHEST = 60
"""Longest distance over which it is looked for what must follow."""
_COMMON = 500
"""Of so many characters, one stands at a place; only compared with itself, to choose what is rare."""

Path = tuple[frozenset[str], ...]
"""What a string's first characters can be, a set each; behind the last, anything."""


class Opening(NamedTuple):
    """How the matches of an alternative begin.

    Attributes:
        first: what they begin with, or more than that; the empty path stands for anything.
        later: what follows, at most `within` characters behind the beginning; empty where nothing is known.
    """

    first: Set[Path]
    later: Set[Path] = frozenset()
    within: int = 0


class Starts:
    """Finds the matches of several patterns in a text."""

    def __init__(self, patterns: Sequence[re.Pattern[str]]) -> None:
        """Read the patterns' beginnings.

        Raises:
            ValueError: one matches an empty text.
        """
        if empty := [pattern.pattern for pattern in patterns if pattern.match("")]:
            raise ValueError(f"{empty[0]!r} matches an empty text, which stands everywhere")
        self._match = [pattern.match for pattern in patterns]
        self._openings = [(number, one) for number, pattern in enumerate(patterns) for one in openings(pattern)]
        # The openings that begin with each string; the empty string stands everywhere.
        self._first = _by_string(one.first for _, one in self._openings)
        self._everywhere = [self._openings[opening][0] for opening in self._first.pop("", ())]

    @cached_property
    def _compiled(self) -> native.Openings:
        later = _by_string(one.later for _, one in self._openings)
        within = [one.within for _, one in self._openings]
        return native.Openings(self._first, later, within, [number for number, _ in self._openings])

    def find(self, text: str) -> list[tuple[int, re.Match[str]]]:
        """Every match, as `re.Pattern.finditer` of each pattern would give it, by pattern and then position."""
        found: list[tuple[int, re.Match[str]]] = []
        ends: dict[int, int] = {}
        tries = self._compiled.find(text) if native.loaded() else self._tries(text)
        for at, number in (*((at, n) for n in self._everywhere for at in range(len(text))), *tries):
            if at >= ends.get(number, 0) and (match := self._match[number](text, at)):
                ends[number] = match.end()
                found.append((number, match))
        return sorted(found, key=itemgetter(0))

    def _tries(self, text: str) -> Iterator[tuple[int, int]]:
        """Where patterns may begin, and which, by place; nothing is asked of what follows."""
        known = self._first
        characters = {string[0] for string in known}
        for at in [at for at, character in enumerate(text) if character in characters]:
            numbers = {self._openings[o][0] for n in range(1, _DEPTH + 1) for o in known.get(text[at : at + n], ())}
            yield from ((at, number) for number in numbers)


def _by_string(paths: Iterable[Set[Path]]) -> dict[str, list[int]]:
    """The sets that hold each string."""
    known: dict[str, list[int]] = {}
    for number, some in enumerate(paths):
        for string in {string for path in some for string in _strings(path)}:
            known.setdefault(string, []).append(number)
    return known


def _strings(path: Path) -> Iterator[str]:
    """The strings of a path; of its first characters only, where there would be too many."""
    length = min(len(path), 1)
    while length < len(path) and math.prod(map(len, path[: length + 1])) <= _MOST:
        length += 1
    return map("".join, product(*path[:length]))


def openings(pattern: re.Pattern[str]) -> list[Opening]:
    """How the matches of a pattern can begin."""
    if pattern.flags & re.IGNORECASE:
        return [Opening({()})]
    ascii_only = bool(pattern.flags & re.ASCII)
    try:
        # The parser is not a public part of Python; where it is not as known here, anything may begin.
        parsed = re._parser.parse(pattern.pattern, pattern.flags)  # type: ignore[attr-defined]
        return [_opening(items, ascii_only) for items in _alternatives(parsed)]
    except (AttributeError, NotImplementedError, TypeError):
        return [Opening({()})]


def _alternatives(items: Any) -> Iterator[Any]:
    operation: Any
    argument: Any
    operation, argument = items[0] if len(items) == 1 else ("", ())
    if str(operation) == "BRANCH":
        for branch in argument[1]:
            yield from _alternatives(branch)
    elif str(operation) == "SUBPATTERN" and not argument[1]:
        yield from _alternatives(argument[-1])
    else:
        yield items


def _opening(items: Any, ascii_only: bool) -> Opening:
    """An alternative's beginning, and the rarest of what its later parts begin with."""
    best = Opening(_begins(items, ascii_only))
    rarity = math.inf
    for place in range(1, len(items)):
        most = items[:place].getwidth()[1]
        later = _begins(items[place:], ascii_only)
        often = most * sum(math.prod(len(members) / _COMMON for members in path) for path in later)
        # What is nearer, `first` says already.
        if _DEPTH <= most <= _FARTHEST and () not in later and often < rarity:
            best, rarity = Opening(best.first, later, int(most)), often
    return best


def _begins(items: Any, ascii_only: bool) -> Set[Path]:
    paths, done = _walk(items, {()}, ascii_only)
    return paths | done


def _walk(items: Iterable[tuple[Any, Any]], paths: set[Path], ascii_only: bool) -> tuple[set[Path], set[Path]]:
    """Lengthen paths by what the items can match; those that can go on, and those that are done."""
    done: set[Path] = set()
    for operation, argument in items:
        match str(operation):
            case "LITERAL":
                paths = {(*path, frozenset({chr(argument)})) for path in paths}
            case "IN" if (members := _members(argument, ascii_only)) is not None:
                paths = {(*path, members) for path in paths}
            case "ANY" | "NOT_LITERAL" | "IN":
                done, paths = done | paths, set()
            case "BRANCH":
                walked = [_walk(branch, paths, ascii_only) for branch in argument[1]]
                paths = set().union(*(more for more, _ in walked))
                done = done.union(*(over for _, over in walked))
            case "SUBPATTERN" if not argument[1]:  # no flags of its own
                paths, over = _walk(argument[-1], paths, ascii_only)
                done |= over
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, part = argument
                paths, over = _repeat(least, most, part, paths, ascii_only)
                done |= over
            case "ASSERT" | "ASSERT_NOT" | "AT":
                pass  # they only narrow what can stand here
            case other:
                raise NotImplementedError(other)
        done |= {path[:_DEPTH] for path in paths if len(path) >= _DEPTH}
        paths = {path for path in paths if len(path) < _DEPTH}
        if not paths:
            break
    return paths, done


def _repeat(least: int, most: int, part: Any, paths: set[Path], ascii_only: bool) -> tuple[set[Path], set[Path]]:
    behind, done = set(paths) if least == 0 else set(), set[Path]()
    for times in range(1, min(int(most), int(least) + _DEPTH) + 1):
        paths, over = _walk(part, paths, ascii_only)
        done |= over
        behind |= paths if times >= least else set()
    return behind, done


def _members(members: Sequence[tuple[Any, Any]], ascii_only: bool) -> frozenset[str] | None:
    """The characters of a class; ``None`` for one that leaves characters out or has too many."""
    found: set[str] = set()
    for operation, argument in members:
        match str(operation):
            case "LITERAL":
                found.add(chr(argument))
            case "RANGE" if argument[1] - argument[0] < _MOST:
                found.update(map(chr, range(argument[0], argument[1] + 1)))
            case "CATEGORY" if str(argument) == "CATEGORY_DIGIT" and ascii_only:
                found.update("0123456789")
            case _:
                return None
    return frozenset(found)
