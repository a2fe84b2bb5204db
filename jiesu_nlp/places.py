"""Finding places in a text: 小区, 路口, 学校, 河道, 地铁站, 楼号 …, and districts and streets by name.

A place is a run of words that ends in a word for a kind of place (``place_words.csv``). It is grown
to the left until a word that cannot be part of a name, so that names that no dictionary knows are
found too.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

from jiesu_nlp.segment import segment_at
from jiesu_nlp.taxonomy import dictionary_words, packaged_table
from jiesu_nlp.text import normalise

_CODE = re.compile(r"[a-z][0-9]*[市区县]")
"""Districts that a publisher replaced by codes."""
_CITY = re.compile(r"(?:\w{2,3}省)?\w{2,3}(?<![超夜集菜门])市")
_NUMBER = re.compile(r"(?:[0-9]{1,3}|[一二三四五六七八九十]{1,3})(?:号楼|号院|栋|幢|座|单元)")
"""Building numbers; they tell buildings of one place apart, so they are no place by themselves."""
_COUNTED, _DIGITS = "号栋幢座", "0123456789一二三四五六七八九十"
_LATIN = "\u33ff"
_AFTER_ROAD = tuple("灯面边况")
_NAMED_BY_ROAD = ("school", "hospital", "transit", "park")
_LONGEST = 12
_MOST_WORDS = 6
_SHORTEST = 3


@dataclass(frozen=True, slots=True)
class Place:
    """A place named in a text: ``text[start:end]``.

    Attributes:
        kind: estate, building, school, hospital, road, transit, water, area, park, body, region or number
            (of a building).
        key: its name without the generic ending (小区, 社区 …), for comparison.
    """

    start: int
    end: int
    text: str
    kind: str
    key: str


class Scan(NamedTuple):
    """A text read once: folded, its words with where they start, its places by position."""

    folded: str
    words: list[tuple[int, str]]
    places: list[Place]


def find_places(text: str) -> list[Place]:
    """Places by position, each mention once; they do not overlap."""
    return scan(text).places


def scan(text: str) -> Scan:
    """Words and places of a text; a district's code (A3区) stands apart from what follows it."""
    folded = normalise(text)
    codes = list(_CODE.finditer(folded))
    words = segment_at(_CODE.sub(lambda code: " " * len(code.group()), folded) if codes else folded)
    _, boundary, generic, regions, ending = _words()
    found = [Place(*m.span(), text[m.start() : m.end()], "region", m.group()) for m in codes]
    found += [Place(*m.span(), text[m.start() : m.end()], "number", m.group()) for m in _NUMBER.finditer(folded)]
    left = 0  # the first word that a name may begin with
    for i in [i for i, (_, word) in enumerate(words) if word in regions or _kind(word) is not None]:
        start, word = words[i]
        end = start + len(word)
        if word in regions:
            found.append(Place(start, end, text[start:end], "region", word))
            left = i + 1
            continue
        first = i
        while first > left and i - first < _MOST_WORDS - 1:
            before, previous = words[first - 1]
            apart = before + len(previous) < start or previous[0] <= _LATIN
            if apart or previous in boundary or end - before > _LONGEST:
                break
            first, start = first - 1, before
        name = folded[start:end]
        key = ending.sub("", name)
        if name[0] in _COUNTED and start and folded[start - 1] in _DIGITS:
            continue  # 3号院小区, which tells no place
        if (
            name == word
            and found
            and (last := found[-1]).end == start
            and last.kind == "road"
            and _kind(word) in _NAMED_BY_ROAD
        ):
            found[-1] = Place(last.start, end, text[last.start : end], _kind(word) or "", folded[last.start : end])
            left = i + 1
            continue
        generic_name = name in generic or key in generic or name.endswith("政府")
        part_of_word = word[-1] == "路" and folded[end : end + 1] in _AFTER_ROAD  # 路灯, cut as 路 and 灯
        if len(name) >= _SHORTEST and len(key) > 1 and not generic_name and not part_of_word:
            found.append(Place(start, end, text[start:end], _kind(word) or "", key))
            left = i + 1
    return Scan(folded, words, sorted(found, key=lambda place: place.start))


def own_place(place: str | None) -> str:
    """The key of a place that a table's column names; empty for a whole city, district, street or town."""
    name = normalise(place or "").strip()
    _, _, generic, regions, ending = _words()
    city = _CITY.match(name)
    inner = name[city.end() :] if city else name  # of 北京市朝阳区; 新发地市场 stays whole
    whole = not inner or inner in regions or f"{inner}区" in regions or name in generic or _CODE.fullmatch(name)
    if whole or name.endswith(("街道", "地区", "镇", "乡")):
        return ""
    return ending.sub("", name)


@lru_cache(1 << 16)
def _kind(word: str) -> str | None:
    """The kind of place that a word ends in."""
    suffixes = _words()[0]
    for length in range(min(4, len(word)), 0, -1):
        if (kind := suffixes.get(word[-length:])) is not None and (length > 1 or len(word) <= 3):
            return kind
    return None


@cache
def _words() -> tuple[dict[str, str], frozenset[str], frozenset[str], frozenset[str], re.Pattern[str]]:
    rows: Sequence[dict[str, str]] = packaged_table("place_words", "word", "kind")
    suffixes = {row["word"]: row["kind"].split(":")[1] for row in rows if row["kind"].startswith("suffix:")}
    boundary = frozenset(row["word"] for row in rows if row["kind"] == "boundary")
    generic = frozenset(row["word"] for row in rows if row["kind"] == "generic")
    regions = frozenset(dictionary_words("district", "street"))
    return suffixes, boundary, generic, regions, re.compile("(?:小区|社区|楼盘|项目|工地|街道|地铁站|公交站)$")
