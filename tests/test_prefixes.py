"""Looking for many patterns at once finds what each of them finds alone."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jiesu_nlp import native
from jiesu_nlp.cues import _patterns
from jiesu_nlp.prefixes import Opening, Starts, openings

TRICKY = [
    re.compile(p)
    for p in (r"a+b?", r"(?<!x)a|bc", r"[^a]b", r"(?:ab|a){2}", r"\d{2,3}年", r"a(?=b)", r".c", r"^a", r"(a)\1")
]
CUE_PATTERNS = [match.__self__ for match in _patterns()[1]._match]
ALPHABET = sorted({c for pattern in CUE_PATTERNS for c in pattern.pattern if c.isalnum()}) + list(",。\n0٣𝟗𠮷")


@pytest.fixture(params=["compiled", "python"], autouse=True)
def engine(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(native, "loaded", lambda: None)


def same(starts, patterns, text):
    found = [(number, match.span()) for number, match in starts.find(text)]
    assert found == [(n, match.span()) for n, pattern in enumerate(patterns) for match in pattern.finditer(text)]


def same_cues(text):
    same(_patterns()[1], CUE_PATTERNS, text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("abcx年1٣ \n", max_size=20))
def test_any_pattern_is_found_as_by_itself(text):
    same(Starts(TRICKY), TRICKY, text)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(ALPHABET), max_size=60).map("".join) | st.text(max_size=40))
def test_cues_are_found_as_by_themselves(text):
    same_cues(text)


def test_cues_of_real_messages_are_found_as_by_themselves(data_folder):
    import json

    with (data_folder / "messages.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["body"] for line, _ in zip(file, range(300), strict=False)]
    for text in texts:
        found = [(number, match.span()) for number, match in _patterns()[1].find(text)]
        assert found == [
            (n, match.span()) for n, pattern in enumerate(CUE_PATTERNS) for match in pattern.finditer(text)
        ]


def chars(text):
    return frozenset(text)


def test_openings():
    digit = chars("0123456789")
    assert openings(re.compile("(?:ab|c)d?")) == [
        Opening({(chars("a"), chars("b")), (chars("c"), chars("d")), (chars("c"),)})
    ]
    assert openings(re.compile("a[xyz].{1,3}c|bb")) == [
        Opening({(chars("a"), chars("xyz"))}, {(chars("c"),)}, 5),
        Opening({(chars("b"), chars("b"))}),
    ]
    assert openings(re.compile(r"\d{1,4}年[前后]", re.ASCII)) == [
        Opening({(digit, chars("年")), (digit, digit)}, {(chars("年"), chars("前后"))}, 4)
    ]
    assert openings(re.compile("[^x]bc")) == [Opening({()}, {(chars("c"),)}, 2)]
    for unread in (re.compile("(?>a)"), re.compile("(?i:a)b"), re.compile("ab", re.IGNORECASE)):
        assert openings(unread) == [Opening({()})]


def test_patterns_that_cannot_be_looked_for_are_refused():
    with pytest.raises(ValueError, match="empty"):
        Starts([re.compile("a*")])
