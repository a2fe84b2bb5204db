"""WordPiece tokens of a text, as pure data (``tokenizer.json``): building a vocabulary, reading long texts.

Texts are prepared as for TF-IDF (`features.prepare`): place codes dropped, every number one ``0``.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.features import prepare

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MIN_TEXTS = 3
"""A vocabulary entry must occur in this many different texts, so that none gives one away."""

_LOOKED_AT = 24
"""Texts of a piece that are compared to see whether enough of them are different."""
_SPACE = re.compile(r"\s+")
_PIECE = re.compile(r"[a-z]+|\S")


def build_tokenizer(texts: Sequence[str], size: int = 8000) -> "Tokenizer":
    """A BERT tokenizer whose vocabulary is the characters and Latin words of a corpus.

    Args:
        texts: raw texts; an entry occurs in at least `MIN_TEXTS` of them, near-copies counted once.
        size: most entries of the vocabulary.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    # Any Latin word can be spelled, whether or not it is an entry.
    spelling = [*(f"##{c}" for c in ascii_lowercase + "0"), *ascii_lowercase, "0"]
    entries = list(dict.fromkeys([*SPECIAL, *spelling, *_pieces(texts)]))[:size]
    vocabulary = {piece: i for i, piece in enumerate(entries)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    pair = [(token, vocabulary[token]) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*pair)
    return tokenizer


def _pieces(texts: Sequence[str]) -> list[str]:
    """Characters and Latin words that occur in enough different texts, the most frequent first."""
    from jiesu_nlp.neardup import near_duplicate_groups  # scikit-learn, which reading does not need

    count: Counter[str] = Counter()
    where: dict[str, list[int]] = {}
    # In a random order, so that the texts which a frequent piece is looked at in are no run of copies.
    for i in np.random.default_rng(0).permutation(len(texts)).tolist():
        for piece in set(_PIECE.findall(prepare(texts[i]))):
            count[piece] += 1
            if count[piece] <= _LOOKED_AT:
                where.setdefault(piece, []).append(i)
    compared = sorted({i for piece, found in where.items() if count[piece] >= MIN_TEXTS for i in found})
    group = dict(zip(compared, near_duplicate_groups([texts[i] for i in compared]).tolist(), strict=True))
    kept = [p for p, n in count.items() if n >= MIN_TEXTS and len({group[i] for i in where[p]}) >= MIN_TEXTS]
    return sorted(kept, key=lambda piece: (-count[piece], piece))


def readable(text: str) -> str:
    """What the encoder is shown of a text; half a character, as of a cut emoji, is shown as ``?``."""
    return _SPACE.sub(" ", prepare(text)).strip().encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Reading:
    """How much of a long text is read. Part of the model format.

    Attributes:
        length: most tokens that the encoder is shown at once.
        head_share: of a text that is longer, the share of `length` that its beginning gets; the rest is its end.
        windows: most pieces of `length` tokens a text is read in; with more than one, nothing is left out in
            between before that, and the pieces' tokens count alike.
    """

    length: int = 256
    head_share: float = 0.75
    windows: int = 1

    def pieces(self, tokens: int) -> list[NDArray[np.int64]]:
        """Which of a text's tokens each piece shows; first and last token of the encoder not counted."""
        room = self.length - 2
        every = np.arange(tokens)
        if tokens > room * self.windows:
            head = round(room * self.windows * self.head_share)
            every = np.concatenate([every[:head], every[tokens - (room * self.windows - head) :]])
        return [every[at : at + room] for at in range(0, max(len(every), 1), room)]


def framed(ids: Sequence[int], pieces: Sequence[NDArray[np.int64]], first: int, last: int) -> list[list[int]]:
    """The pieces of a text as rows of token ids, each between `first` and `last`."""
    return [[first, *(ids[i] for i in piece), last] for piece in pieces]


def pad(rows: Sequence[Sequence[int]], padding: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and attention mask of a batch, both of shape (n, length of the longest row)."""
    width = max(map(len, rows), default=0)
    ids = np.full((len(rows), width), padding, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask
