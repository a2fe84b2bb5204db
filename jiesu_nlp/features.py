"""From a text to counted features: words, and character n-grams, with the title counted more.

Places that a publisher replaced by codes (A市, A3区) and the names of Beijing's districts are
dropped in front of 市, 区 and 县: they say where, not what.
"""

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


@dataclass(frozen=True)
class FeatureConfig:
    """What is counted. Part of the model format.

    Attributes:
        char_min, char_max: lengths of the character n-grams.
        lead_weight: how many times a feature in the first sentence counts.
    """

    char_min: int = 1
    char_max: int = 3
    lead_weight: int = 3

    def __post_init__(self) -> None:
        """Check the lengths and the weight.

        Raises:
            ValueError: not whole numbers, or lengths that no n-gram can have.
        """
        values = (self.char_min, self.char_max, self.lead_weight)
        if not all(type(value) is int and 1 <= value <= _MOST for value in values) or self.char_min > self.char_max:
            raise ValueError(
                f"lengths of n-grams and the weight of the lead are 1 to {_MOST}, the shorter length first"
            )

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


def count_features(text: str, config: FeatureConfig) -> tuple[Counter[str], Counter[str]]:
    """Counts of the words and of the character n-grams of a text."""
    prepared = prepare(text)
    words, chars = Counter(segment(prepared)), Counter(_ngrams(prepared, config))
    first = lead(prepared)
    for _ in range(config.lead_weight - 1):
        words.update(segment(first))
        chars.update(_ngrams(first, config))
    return words, chars


def collapse(text: str) -> str:
    """White space as one space, for character n-grams."""
    return _SPACE.sub(" ", text)


def _ngrams(text: str, config: FeatureConfig) -> Iterator[str]:
    text = collapse(text)
    for n in range(config.char_min, config.char_max + 1):
        for i in range(len(text) - n + 1):
            yield text[i : i + n]


def districts() -> list[str]:
    """Names of districts, without 区."""
    return [word[:-1] for word in dictionary_words("district") if word.endswith("区")]


@cache
def _place_code() -> re.Pattern[str]:
    return re.compile(rf"(?:[a-z][0-9]*|{'|'.join(districts())})(?=[市区县])")
