"""A ModernBERT in 8-bit integers, compiled: the steps of `models.modernbert`, to the same bits."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.native.binding import address, made, required

PRODUCTS = ("query_key_value", "attended", "gated", "projected", "answer")
_ARRAYS = (
    *("embedding", "embedding_scale", "norms", "cosine", "sine"),
    *(name + part for name in PRODUCTS for part in ("", "_scale")),
    "answer_bias",
)
"""In the order in which ``encoder_new`` takes them."""
UNKNOWN = "the tokenizer does not belong to this encoder, or a text is longer than it reads"
_STEP, _LARGEST, _SIDE = 32, 64, 16
"""Multiples of what the size of a head may be, and up to what; of what the width of a gate."""


def fits(width: int, heads: int, inner: int) -> bool:
    """Whether the compiled steps are made for such layers and this machine; they work on whole vectors."""
    size, rest = divmod(width, heads)
    whole = not rest and size % _STEP == 0 and size <= _LARGEST and inner % _SIDE == 0
    return whole and sys.byteorder == "little"


def levels() -> int:
    """How many ways to multiply integers this machine has, from the plainest to the fastest; all give the same."""
    return int(required().encoder_level()) + 1


class Encoder:
    """An encoder that is ready to run; several threads may use it."""

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        heads: int,
        constants: tuple[float, float],
        reach: Sequence[int],
        level: int | None = None,
    ) -> None:
        """Pack the weights.

        Args:
            arrays: those of `models.modernbert`, whose shapes were checked, and ``cosine`` and ``sine``, both of
                shape (layers, positions, half a head).
            heads: of attention. constants: epsilon of the norms, and by what scores are multiplied.
            reach: of each layer, 0 for the whole text.
            level: the way to multiply; the fastest when ``None``.
        """
        self._lib = required()
        kept = [np.ascontiguousarray(arrays[name]) for name in _ARRAYS]
        self._arrays = kept  # it reads them in place
        entries, width = arrays["embedding"].shape
        self._columns = len(arrays["answer_bias"])
        inner, positions = arrays["projected"].shape[-1], arrays["cosine"].shape[1]
        sizes = np.array([len(reach), width, heads, inner, entries, self._columns, positions], np.uintp)
        addresses = np.array([array.ctypes.data for array in kept], np.uintp)
        best = levels() - 1 if level is None else level
        given = address(sizes), address(np.array(constants, np.float32)), address(np.array(reach, np.uint32))
        self.handle = made(self._lib.encoder_new(*given, address(addresses), best))

    def run(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits (n, t, codes) of token ids (n, t).

        Raises:
            ValueError: an id or a length that the encoder does not have.
        """
        ids = np.ascontiguousarray(ids, np.int64)
        texts, length = ids.shape
        logits = np.empty((texts, length, self._columns), np.float32)
        done = self._lib.encoder_run(self.handle, address(ids), texts, length, address(logits))
        if done < 0:
            raise ValueError(UNKNOWN)
        if not done:
            raise MemoryError
        return logits

    def __del__(self) -> None:
        if handle := self.__dict__.get("handle"):
            self._lib.encoder_free(handle)
