"""Spans of a text that say something a rule can use: evidence of recurrence, hazards, channels.

Patterns stand in ``data/labels/cues.csv``, one regular expression a row, over normalised text.
A span does not count where its clause negates it, asks about it or speaks of it in general;
hazards, in addition, only where they are there now: not in the past, and, of most, only if the
sentence says so or the whole text is one short report.
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
_SHORT = 40
"""Characters up to which a text that names a danger is a report of it, not a story."""
_STORY = 250
"""Characters from which on 现在 and 今天 stand in a story; only words for this very moment (刚才, 快来) count there."""
_CLAUSE_START = re.compile(r".*[,。;!?\n:、]", re.DOTALL)
_SENTENCE_START = re.compile(r".*[。!?;\n]", re.DOTALL)
_SENTENCE = re.compile(r"[^。!;\n]*")
_CLAUSE = re.compile(r"[^,。;!?\n:、]*")
_ASKS = r"是不是|是否|会不会|吗[?,。]?|如何|怎样|怎么(?:处理|预防|避免|报|防|判断|识别)|该打(?:什么|哪)"
_QUESTION = re.compile(rf"{_ASKS}|有没有|怎么办")
# 怎么办 and 有没有人来救 are asked by those to whom it happens.
_HAZARD_QUESTION = re.compile(rf"{_ASKS}|怎么制止|有没有(?:规定|标准|政策|办法)")
_NEGATION = re.compile(
    r"(?:没有?|未曾?|从未|并未|不曾|不是|不会|勿|第一次|无(?![数法证照牌奈故良视赖障名缘人])|"
    r"(?<![分特个级区性告识辨类])别(?![墅的人处]))[^,。;!?\n]{0,3}$"
)
_UNDONE = re.compile(
    r"(?:没有?|并未|未曾?|不会)(?:再|被)?(?:着火|起火|冒烟|困|关|夹|掉|落|晕|昏|骨折|走失|丢|塌|泄漏|泄露|漏|受伤|撞|打|出血|中毒|触电|爆)"
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
        (kind, basis, must_say), (start, end) = patterns[number], match.span()
        if end > start and taken[kind].find(1, start, end) < 0 and _counts(folded, start, end, kind, must_say):
            taken[kind][start:end] = b"\1" * (end - start)
            found.append(Cue(start, end, text[start:end], kind, basis))
    return sorted(found, key=_BY_PLACE)


def _counts(text: str, start: int, end: int, kind: str, must_say: bool) -> bool:
    clause = _behind(_CLAUSE_START, text, start)
    before = text[clause:start]
    after = _SENTENCE.match(text, end, end + 30)[0]  # type: ignore[index]  # it matches nothing, too
    if kind.startswith("hazard"):
        own = text[clause:end] + _CLAUSE.match(after)[0]  # type: ignore[index]
        sentence = text[_behind(_SENTENCE_START, text, start) : end] + after
        negated = _NEGATION.search(before) or _UNDONE.search(text, start, end)
        return not negated and _is_now(own, sentence, len(text), must_say)
    question = _QUESTION.search(before) or _ASKED.match(after)
    habit = kind == "periodic" and _FIRST_PERSON_HABIT.search(before) and _GOES.match(after)
    return not (_NEGATION.search(before) or question or habit)


def _is_now(clause: str, sentence: str, length: int, must_say: bool) -> bool:
    """Whether a clause of a sentence tells of a danger that is there now, in a text of some length.

    Args:
        must_say: the sentence must say so; what most people say only when it happens need not.
    """
    past, acute, now, general = (_times()[name].search for name in ("past", "acute", "now", "general"))
    # 去年电梯坏过,现在孩子被困电梯里: what a clause says of itself goes before what its neighbours say.
    if past(clause if now(clause) or acute(clause) else sentence):
        return False
    if acute(sentence):
        return True
    if general(sentence) or _HAZARD_QUESTION.search(sentence):
        return False
    return not must_say or length <= _SHORT or (length <= _STORY and bool(now(sentence)))


def _behind(mark: re.Pattern[str], text: str, place: int) -> int:
    """Where what stands before a place begins: behind the last mark, or at the edge of what is looked at."""
    first = max(0, place - _WINDOW)
    last = mark.match(text, first, place)
    return last.end() if last else first


@cache
def _patterns() -> tuple[list[tuple[str, str, bool]], Starts]:
    """Of each row of ``cues.csv`` the kind, the basis and whether it must be said to be now; all their patterns."""
    rows = packaged_table("cues", "kind", "pattern", "basis", "note", "now")
    found = [(row["kind"], row["basis"], bool(row["now"])) for row in rows]
    return found, Starts([_compiled(row["pattern"]) for row in rows])


@cache
def _times() -> dict[str, re.Pattern[str]]:
    """Words that say when: past, at this moment, now, in general."""
    return {name: _compiled(_words()[name]) for name in ("past", "acute", "now", "general")}


def _compiled(pattern: str) -> re.Pattern[str]:
    """A name in braces stands for the alternatives of ``cue_words.csv``."""
    return re.compile(_NAMED.sub(lambda name: f"(?:{_words()[name[1]]})", pattern), re.ASCII)


@cache
def _words() -> dict[str, str]:
    return {row["name"]: row["words"] for row in packaged_table("cue_words", "name", "words", "note")}
