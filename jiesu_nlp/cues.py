"""Spans of a text that say something a rule can use: evidence of recurrence, hazards, channels.

Patterns stand in ``data/labels/cues.csv``, one regular expression a row, over normalised text.
A span does not count where its clause negates it, asks about it or speaks of it in general;
hazards, in addition, not where they are past.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from operator import attrgetter

from jiesu_nlp.prefixes import Starts
from jiesu_nlp.taxonomy import packaged_table
from jiesu_nlp.text import normalise

RECURRENCE_KINDS = ("repeated", "unanswered", "long_standing", "periodic", "collective", "ageing")

_WINDOW = 40
_CLAUSE_START = re.compile(r".*[,。;!?\n:、]", re.DOTALL)
_SENTENCE_START = re.compile(r".*[。!;\n]", re.DOTALL)
_SENTENCE = re.compile(r"[^。!\n]*")
_QUESTION = re.compile(
    r"是不是|是否|会不会|有没有|吗[?,。]?|如何|怎么办|怎样|怎么(?:处理|预防|避免|报|防|判断|识别)|该打(?:什么|哪)"
)
_NEGATION = re.compile(
    r"(?:没有?|未曾?|从未|并未|不曾|不是|不会|勿|第一次|无(?![数法证照牌奈故良视赖障名缘人])|"
    r"(?<![分特个级区性告识辨类])别(?![墅的人处]))[^,。;!?\n]{0,3}$"
)
_GENERAL = re.compile(
    r"如果|假如|万一|一旦|若|倘若|防止|避免|预防|以免|以防|杜绝|担心|害怕|怕|可能|容易|导致|造成|会(?=发生|出现)|风险|隐患|"
    r"稍有不慎|早晚|就会|至今|经常|时常|常常|总是|有时|偶尔|每次|多次|几次|次数|屡次|数不胜数|叫天不应|演练|培训|宣传|讲座|知识|应急预案|建议|报警器|装置"
)
_PAST = re.compile(
    r"去年|前年|上次|上回|上个?月|上周|曾经?|之前|此前|以前|当时|那次|那年|昨天|前天|几年前|年前|月前|[困漏落到火生现]过|"
    r"\d{1,4}年|\d{1,2}月|已(?:经)?(?:修好|处理|解决|救出|扑灭)|后来|事后|终于"
)
_NAMED = re.compile(r"\{([a-z]+)\}")
_ASKED = re.compile(r"[^,。!?\n]{0,4}(?:吗|(?<![什怎这那多要])么)[?,。]?")
_GOES = re.compile(r"(?:都)?(?:上班|上学|坐|乘|走|路过|骑|开车|去)")
_BY_PLACE = attrgetter("start", "end")
_FIRST_PERSON_HABIT = re.compile(r"我(?:们)?(?:每天|天天|每晚|每次|每周|经常|时常)?$")


@dataclass(frozen=True)
class Cue:
    """A span found: ``text[start:end]`` of the caller's own text.

    Attributes:
        kind: one of `RECURRENCE_KINDS`, ``statutory``, ``whistle``, ``escalate`` or ``hazard:1xx``.
        basis: the article of the regulation that makes it matter.
    """

    start: int
    end: int
    text: str
    kind: str
    basis: str


def find_cues(text: str) -> list[Cue]:
    """All cues of a text, by position; spans of one kind do not overlap."""
    folded = normalise(text)
    found: list[Cue] = []
    taken: dict[str, bytearray] = defaultdict(lambda: bytearray(len(folded)))
    patterns, starts = _patterns()
    for number, match in starts.find(folded):
        (kind, basis), (start, end) = patterns[number], match.span()
        if end > start and taken[kind].find(1, start, end) < 0 and _counts(folded, start, end, kind):
            taken[kind][start:end] = b"\1" * (end - start)
            found.append(Cue(start, end, text[start:end], kind, basis))
    return sorted(found, key=_BY_PLACE)


def _counts(text: str, start: int, end: int, kind: str) -> bool:
    before = text[_behind(_CLAUSE_START, text, start) : start]
    after = _SENTENCE.match(text, end, end + 30)[0]  # type: ignore[index]  # it matches nothing, too
    if kind.startswith("hazard"):
        sentence = text[_behind(_SENTENCE_START, text, start) : end] + after
        return not (
            _NEGATION.search(before)
            or _QUESTION.search(sentence)
            or _GENERAL.search(sentence)
            or _PAST.search(sentence)
        )
    question = _QUESTION.search(before) or _ASKED.match(after)
    habit = kind == "periodic" and _FIRST_PERSON_HABIT.search(before) and _GOES.match(after)
    return not (_NEGATION.search(before) or question or habit)


def _behind(mark: re.Pattern[str], text: str, place: int) -> int:
    """Where what stands before a place begins: behind the last mark, or at the edge of what is looked at."""
    first = max(0, place - _WINDOW)
    last = mark.match(text, first, place)
    return last.end() if last else first


@cache
def _patterns() -> tuple[list[tuple[str, str]], Starts]:
    """Kind and basis of each row of ``cues.csv``, and its patterns, to be looked for together.

    A name in braces stands for the alternatives of ``cue_words.csv``.
    """
    words = {row["name"]: row["words"] for row in packaged_table("cue_words", "name", "words", "note")}
    rows = packaged_table("cues", "kind", "pattern", "basis", "note")
    compiled = [re.compile(_NAMED.sub(lambda m: words[m[1]], row["pattern"]), re.ASCII) for row in rows]
    return [(row["kind"], row["basis"]) for row in rows], Starts(compiled)
