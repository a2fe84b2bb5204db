"""From a text to counted features: words and character n-grams, with the title counted more, and both ends apart.

A complaint begins with its matter and ends with what is asked; between them is what happened. So the
n-grams of the first and of the last characters are counted once more, as blocks of their own. Places
that a publisher replaced by codes (A市, A3区) and the names of Beijing's districts are dropped in front
of 市, 区 and 县: they say where, not what.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache

from jiesu_nlp.segment import segment
from jiesu_nlp.taxonomy import dictionary_words
from jiesu_nlp.text import lead, normalise

_DIGITS = re.compile(r"[0-9]+")
_REPEAT = re.compile(r"(.)\1{2,}", re.DOTALL)
_SPACE = re.compile(r"\s+")
_MOST = 16
_MOST_EDGE = 1000
BLOCK_SHARES = (1.0, 1.0, math.sqrt(0.5), math.sqrt(0.5))
"""Lengths of the blocks words, n-grams, first and last: the two ends weigh together as much as each of the others."""


@dataclass(frozen=True)
class FeatureConfig:
    """What is counted. Part of the model format.

    Attributes:
        char_min, char_max: lengths of the character n-grams.
        lead_weight: how many times a feature in the first sentence counts.
        edge: how many characters at each end of a text are a block of their own; 0 for none.
    """

    char_min: int = 1
    char_max: int = 3
    lead_weight: int = 3
    edge: int = 30

    def __post_init__(self) -> None:
        """Check the lengths and the weight.

        Raises:
            ValueError: not whole numbers, or lengths that no n-gram or end can have.
        """
        values = (self.char_min, self.char_max, self.lead_weight)
        if not all(type(value) is int and 1 <= value <= _MOST for value in values) or self.char_min > self.char_max:
            raise ValueError(
                f"lengths of n-grams and the weight of the lead are 1 to {_MOST}, the shorter length first"
            )
        if type(self.edge) is not int or not 0 <= self.edge <= _MOST_EDGE:
            raise ValueError(f"lengths of an end are 0 to {_MOST_EDGE} characters")

    def to_dict(self) -> dict[str, int]:
        """JSON-ready form."""
        return asdict(self)


def prepare(text: str) -> str:
    """Normalise, drop place codes and district names, write every number as ``0``.

    A character that stands three times or more (啊啊啊) is written twice: it means no more, and
    where a doubled word could start is an exact tie that the two segmentation engines break
    differently.
    """
    return _REPEAT.sub(r"\1\1", _DIGITS.sub("0", _place_code().sub("", normalise(text))))


def count_features(text: str, config: FeatureConfig) -> tuple[Counter[str], ...]:
    """Counts of a text's blocks: words, character n-grams, those of the first and those of the last characters.

    N-grams are those of the text without its white space.
    """
    prepared = prepare(text)
    first = lead(prepared)
    whole, title = (_SPACE.sub("", part) for part in (prepared, first))
    words, chars = Counter(segment(prepared)), Counter(_ngrams(whole, config))
    for _ in range(config.lead_weight - 1):
        words.update(segment(first))
        chars.update(_ngrams(title, config))
    ends = whole[: config.edge], whole[max(len(whole) - config.edge, 0) :]
    return words, chars, *(Counter(_ngrams(end, config)) for end in ends)


def _ngrams(text: str, config: FeatureConfig) -> Iterator[str]:
    for n in range(config.char_min, config.char_max + 1):
        for i in range(len(text) - n + 1):
            yield text[i : i + n]


def districts() -> list[str]:
    """Names of districts, without 区."""
    return [word[:-1] for word in dictionary_words("district") if word.endswith("区")]


@cache
def _place_code() -> re.Pattern[str]:
    return re.compile(rf"(?:[a-z][0-9]*|{'|'.join(districts())})(?=[市区县])")
