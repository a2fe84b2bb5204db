"""What a ticket is about, as a sparse vector, and how alike two tickets' matters are.

Three blocks share the vector: the words, weighed by how rare they are among complaints; the names of
places; and the title. Each has unit length times the square root of its share, so that the dot
product of two vectors is the weighed mean of three cosines. The vector of a text depends on nothing
but the text and ``word_idf.csv``, so a stored one stays comparable.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.places import Place, own_place, scan
from jiesu_nlp.segment import segment_at
from jiesu_nlp.taxonomy import packaged_table
from jiesu_nlp.text import lead

SAME_MATTER = 0.24
"""Similarity from which two tickets count as one matter: of 403 pairs that readers called the same
among 16,020, found at a precision of about 0.8 (``benchmarks/same_matter.py``)."""

SAME_SUBJECT = 0.02
"""What words that are no part of a place's name must bring to that: one place has matters of many kinds."""

_SHARES = {"word": 0.5, "place": 0.25, "title": 0.25}
_MOST = {"word": 96, "place": 48, "title": 48}
_KEY_WORDS = 8
_WHY = 5
KEY_PLACES = 4

Features = NDArray[np.uint32]
Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Matter:
    """A ticket's matter.

    Attributes:
        features: hashes, ascending, shape (n,). weights: float32, shape (n,); squares sum to at most 1.
        keys: features to look it up by: its places, then its most telling words.
        places: keys of the places it names, most often named first; districts and streets apart.
        regions: districts and streets that it names.
        names: what the features stand for, those of the title apart.
        subject: which features are words that stand outside the names of places, shape (n,).
    """

    features: Features
    weights: Weights
    keys: tuple[int, ...]
    places: tuple[str, ...]
    regions: tuple[str, ...]
    names: Mapping[int, str]
    subject: NDArray[np.bool_]

    def similarity(self, features: Features, weights: Weights, lengths: Sequence[int]) -> NDArray[np.float32]:
        """Similarity to each of several matters, 0..1, whose arrays stand one behind the other; 0 for another subject.

        Args:
            lengths: number of features of each, shape (m,).
        """
        if not len(self.features) or not len(lengths):
            return np.zeros(len(lengths), np.float32)
        position = np.minimum(np.searchsorted(self.features, features), len(self.features) - 1)
        product = np.where(self.features[position] == features, self.weights[position] * weights, 0.0)
        total, of_subject = (_sums(part, lengths) for part in (product, product * self.subject[position]))
        return np.where(of_subject >= SAME_SUBJECT, total, 0.0).astype(np.float32)


def read_matter(text: str, place: str | None = None, *, asks: bool = True) -> Matter:
    """The matter of a text; `place` is added to the places that it names.

    Args:
        asks: whether others will be compared with it; one that is only stored has no `subject`, which takes time.
    """
    folded, words, found = scan(text)
    places = Counter(p.key for p in found if p.kind not in ("region", "number"))
    if key := own_place(place):
        places[key] += 1
    idf, rarest = _idf()
    outside = _outside(words, found, len(folded)) if asks else set()
    counts = Counter(word for _, word in words)
    blocks = {
        # A one-character word that the table does not know is noise of segmentation.
        "word": {w: (1 + math.log(n)) * idf.get(w, rarest) for w, n in counts.items() if len(w) > 1 or w in idf},
        "place": _log_counts(_grams(places) + places),
        "title": _log_counts(_grams({lead(folded): 1})),
    }
    vector: dict[int, float] = {}
    names: dict[int, str] = {}
    telling: list[int] = []
    subject: set[int] = set()
    for block, weights in blocks.items():
        strongest = sorted(weights.items(), key=_by_weight)[: _MOST[block]]
        scale = math.sqrt(_SHARES[block] / (sum(w * w for _, w in strongest) or 1.0))
        hashed = [crc32(f"{block}:{name}".encode("utf-8", "surrogatepass")) for name, _ in strongest]
        vector.update(zip(hashed, (weight * scale for _, weight in strongest), strict=True))
        if block == "word":
            telling = hashed[:_KEY_WORDS]
            subject = {feature for feature, (name, _) in zip(hashed, strongest, strict=True) if name in outside}
        if block != "title":
            names.update(zip(hashed, (name for name, _ in strongest), strict=True))
    top_places = tuple(place for place, _ in places.most_common())
    keys = [place_feature(p) for p in top_places[:KEY_PLACES]] + telling
    features = np.array(sorted(vector), np.uint32)
    return Matter(
        features,
        np.array([vector[f] for f in features.tolist()], np.float32),
        tuple(dict.fromkeys(keys)),
        top_places,
        tuple(dict.fromkeys(p.key for p in found if p.kind == "region")),
        names,
        np.array(list(map(subject.__contains__, features.tolist())), bool),
    )


def _outside(words: Sequence[tuple[int, str]], places: Sequence[Place], length: int) -> set[str]:
    """Words that stand somewhere outside the names of places."""
    inside = bytearray(length)
    for place in places:
        if place.kind != "number":
            inside[place.start : place.end] = b"\1" * (place.end - place.start)
    find = inside.find
    return {word for at, word in words if find(1, at, at + len(word)) < 0}


def _sums(values: NDArray[np.float64], lengths: Sequence[int]) -> NDArray[np.float64]:
    ends = np.concatenate([[0], np.cumsum(np.concatenate([[0.0], values]))[np.cumsum(lengths)]])
    return np.diff(ends)


def shown_names(matter: Matter) -> list[tuple[int, str]]:
    """Features with a name to show: places first, then words, heaviest first."""
    places = set(matter.places)
    weight = dict(zip(matter.features.tolist(), matter.weights.tolist(), strict=True))
    shown = [(feature, name) for feature, name in matter.names.items() if len(name) > 1]
    return sorted(shown, key=lambda pair: (pair[1] not in places, -weight[pair[0]]))


def shared_names(telling: Sequence[tuple[int, str]], features: frozenset[int]) -> tuple[str, ...]:
    """Places and words that both name, none inside another."""
    chosen: list[str] = []
    for feature, name in telling:
        if feature in features and not any(name in other or other in name for other in chosen):
            chosen.append(name)
            if len(chosen) == _WHY:
                break
    return tuple(chosen)


def is_common(word: str) -> bool:
    """Whether a word is known from at least three different tickets, so that showing it gives none away."""
    return word in _idf()[0]


def features_of_place(key: str) -> Features:
    """What a place's name brings to the blocks of a matter, ascending."""
    grams = _grams({key: 1})
    names = {"place": {key, *grams}, "title": set(grams), "word": {word for _, word in segment_at(key)}}
    hashed = {
        crc32(f"{block}:{name}".encode("utf-8", "surrogatepass")) for block, some in names.items() for name in some
    }
    return np.array(sorted(hashed), np.uint32)


def place_feature(key: str) -> int:
    """The feature by which tickets of a place are looked up."""
    return crc32(f"at:{key}".encode("utf-8", "surrogatepass"))


def _by_weight(item: tuple[str, float]) -> tuple[float, str]:
    return -item[1], item[0]


def _grams(texts: Mapping[str, int]) -> Counter[str]:
    grams: Counter[str] = Counter()
    for text, count in texts.items():
        for n in (2, 3):
            for i in range(len(text) - n + 1):
                grams[text[i : i + n]] += count
    return grams


def _log_counts(counts: Mapping[str, int]) -> dict[str, float]:
    return {gram: 1 + math.log(n) for gram, n in counts.items()}


@cache
def _idf() -> tuple[dict[str, float], float]:
    """The table, and the weight of a word that it does not have."""
    table = {row["word"]: float(row["idf"]) for row in packaged_table("word_idf", "word", "idf")}
    return table, max(table.values()) + math.log(2)
