"""A ModernBERT in 8-bit integers: what its layers compute, step by step, in numpy.

The same steps are compiled (``native/encoder.c``), many times as fast, to the same bits: products are sums of
integers, which are exact in any order, and what stands between them is done in single precision, in an order that is
laid down here. So a text's answer depends neither on the machine nor on what is read beside it.

Weights have a scale an output; what they are multiplied with has one a token, found when it is read; queries and
keys have one a token and head, values one a column and text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from jiesu_nlp import native
from jiesu_nlp.models.base import FloatArray, remade
from jiesu_nlp.models.store import check_arrays
from jiesu_nlp.native.encoder import PRODUCTS, UNKNOWN, Encoder, fits, levels

_LANES = 16
"""Numbers are summed in so many columns side by side, and these in pairs."""
_MOST, _ROOM, _HUGE = 1 << 16, 1 << 24, 1e6
"""Bounds for whole numbers, for all layers' angles, and for what weights and scales may be."""
_LEVELS = np.float32(127)
_DIGIT = 128
_SHARES = np.float32(_DIGIT * _DIGIT - 1)
"""Attention is counted in so many parts of its largest share: two digits of 7 bits."""
_EXACT = 1024
"""So many products of 8-bit integers add up to a whole number that single precision can hold."""
_TINY = np.float32(1e-30)
_ERF = tuple(map(np.float32, (4.30638e-5, 2.765672e-4, 1.520143e-4, 9.2705272e-3, 4.22820123e-2, 7.05230784e-2, 1)))
"""Abramowitz and Stegun 7.1.28: 1 less the 16th power of the inverse of this polynomial, to 3e-7."""
_ALL = np.float32(6)
"""Beyond it the error function is 1 in single precision."""
_EXP2 = tuple(
    map(
        np.float32,
        (
            *(1.535336188319500e-4, 1.339887440266574e-3, 9.618437357674640e-3, 5.550332471162809e-2),
            *(2.402264791363012e-1, 6.931472028550421e-1, 1),
        ),
    )
)
"""Of Cephes' exp2f: 2^r, where r lies within a half."""
_LOWEST = np.float32(-126)
_LOG2_E = 1.4426950408889634


@dataclass(frozen=True)
class ModernBert:
    """Token ids to logits of every token.

    Attributes:
        arrays: weights as (outputs, inputs), layers first, and their scales (`shapes`). ``norms`` are the
            embedding's, two a layer (before attention, which the first lacks, and before the gate) and the last;
            ``gated`` is what is passed on above what opens the gate; ``frequencies`` are those of the rotations.
        heads: of attention. epsilon: of the norms.
        reach: of each layer, how far a token sees to either side; 0 for the whole text.
        positions: most tokens of a text.
    """

    arrays: Mapping[str, NDArray[Any]]
    heads: int
    epsilon: float
    reach: tuple[int, ...]
    positions: int

    FILE = "network.safetensors"

    def runner(self) -> Callable[[NDArray[np.int64]], FloatArray]:
        """What gives logits (n, t, codes) of token ids (n, t), none of which is padding; for several threads."""
        _, width = self.arrays["embedding"].shape
        fit = fits(width, self.heads, self.arrays["projected"].shape[-1])
        if not native.loaded() or not fit or levels() == 1:  # numpy multiplies faster than the plainest way
            return self.run
        return self.compiled().run

    def compiled(self, level: int | None = None) -> Encoder:
        """The compiled steps, where the layers fit them (`native.encoder.fits`); `level` as `Encoder` has it."""
        turns = dict(zip(("cosine", "sine"), self._turns, strict=True))
        constants = self.epsilon, float(self._root)
        return Encoder({**self.arrays, **turns}, self.heads, constants, self.reach, level)

    def run(self, ids: NDArray[np.int64]) -> FloatArray:
        """Logits (n, t, codes) of token ids (n, t), in numpy.

        Raises:
            ValueError: an id or a length that the encoder does not have.
        """
        if ids.shape[1] > self.positions or not ((ids >= 0) & (ids < len(self.arrays["embedding"]))).all():
            raise ValueError(UNKNOWN)
        return np.stack([self._text(row) for row in ids])

    def stored(self) -> tuple[dict[str, Any], bytes]:
        """Settings, JSON-ready, and the content of `FILE`."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "arrays"}
        return settings, save({name: np.ascontiguousarray(array) for name, array in self.arrays.items()})

    @classmethod
    def restored(cls, settings: Mapping[str, Any], content: bytes) -> "ModernBert":
        """What `stored` gave.

        Raises:
            ValueError: it is damaged, or its parts do not fit each other.
        """
        try:
            made = cls(load(content), **dict(settings) | {"reach": tuple(settings["reach"])})
            made.check()
        except (SafetensorError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not an encoder ({type(error).__name__})") from error
        return made

    def check(self) -> None:
        """Look whether everything can be run.

        Raises:
            ValueError: settings or arrays do not fit each other, or are of a size that no encoder has.
        """
        whole = (self.heads, self.positions, *self.reach)
        if not all(isinstance(n, int) and 0 <= n < _MOST for n in whole) or not self.reach:
            raise ValueError("settings of the encoder are no such numbers")
        if not isinstance(self.epsilon, float) or not 0 < self.epsilon < 1:
            raise ValueError("settings of the encoder: epsilon is no small number")
        if not self.heads or not self.positions or self.positions * self.arrays["frequencies"].size > _ROOM:
            raise ValueError("settings of the encoder: heads or positions are too few, or too many")
        shapes = self.shapes()
        check_arrays("the encoder", self.arrays, shapes)
        for name in shapes:
            array, whole_numbers = self.arrays[name], name in (*PRODUCTS, "embedding")
            if array.dtype != (np.int8 if whole_numbers else np.float32) or not array.size:
                raise ValueError(f"array {name!r} is {array.dtype} of shape {array.shape}")
            if whole_numbers and array.min() < -_LEVELS:
                raise ValueError(f"array {name!r} holds -128, which the encoder does not multiply with")
            if not whole_numbers and not (np.abs(array) < _HUGE).all():
                raise ValueError(f"array {name!r} holds numbers that are far too large")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array."""
        layers, (entries, width) = len(self.reach), self.arrays["embedding"].shape
        inner, (columns,) = self.arrays["projected"].shape[-1], self.arrays["answer_bias"].shape
        products: dict[str, tuple[int, ...]] = {
            "query_key_value": (layers, 3 * width, width),
            "attended": (layers, width, width),
            "gated": (layers, 2 * inner, width),
            "projected": (layers, width, inner),
            "answer": (columns, width),
            "embedding": (entries, width),
        }
        scales = {f"{name}_scale": shape[:-1] for name, shape in products.items()}
        others: dict[str, tuple[int, ...]] = {
            "norms": (2 * layers + 2, width),
            "frequencies": (layers, width // self.heads // 2),
        }
        return products | scales | others | {"answer_bias": (columns,)}

    __reduce__ = remade

    @cached_property
    def _turns(self) -> tuple[FloatArray, FloatArray]:
        """Cosine and sine of each layer's angles, each of shape (layers, positions, half a head)."""
        places = np.arange(self.positions, dtype=np.float32)[None, :, None]
        angles = (places * self.arrays["frequencies"][:, None]).astype(np.float64)
        return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    @property
    def _root(self) -> np.float32:
        """By what scores are multiplied, so that their exponentials are powers of two."""
        size: int = self.arrays["embedding"].shape[1] // self.heads
        return np.float32(size**-0.5 * _LOG2_E)

    def _text(self, ids: NDArray[np.int64]) -> FloatArray:
        arrays = self.arrays
        norms = iter(arrays["norms"])
        x = _times(arrays["embedding"][ids].astype(np.float32), arrays["embedding_scale"][ids])
        x = self._norm(x, next(norms))
        for layer in range(len(self.reach)):
            weight = next(norms)
            read = self._norm(x, weight) if layer else x
            x = x + self._linear("attended", layer, self._attend(self._linear("query_key_value", layer, read), layer))
            inner, gate = np.split(self._linear("gated", layer, self._norm(x, next(norms))), 2, axis=1)
            x = x + self._linear("projected", layer, gelu(inner) * gate)
        return np.asarray(self._linear("answer", ..., self._norm(x, next(norms))) + arrays["answer_bias"])

    @cached_property
    def _weights(self) -> dict[str, FloatArray]:
        """The integers of products as single precision, in which BLAS multiplies them."""
        return {name: self.arrays[name].astype(np.float32) for name in PRODUCTS}

    def _linear(self, name: str, layer: Any, x: FloatArray) -> FloatArray:
        rows, scales = _quantised(x)
        return np.asarray(
            _times(_product(rows, self._weights[name][layer]), scales) * self.arrays[f"{name}_scale"][layer]
        )

    def _norm(self, x: FloatArray, weight: FloatArray) -> FloatArray:
        width = np.float32(x.shape[1])
        apart = x - (_sums(x) / width)[:, None]
        spread = _sums(apart * apart) / width + np.float32(self.epsilon)
        return np.asarray(_times(apart, np.float32(1) / np.sqrt(spread)) * weight)

    def _attend(self, queries_keys_values: FloatArray, layer: int) -> FloatArray:
        """What each token sees, shape (t, width)."""
        t = len(queries_keys_values)
        cosine, sine = (turn[layer, :t] for turn in self._turns)
        apart = np.abs(np.subtract.outer(np.arange(t), np.arange(t)))
        seen = apart <= (self.reach[layer] or t)
        by_head = queries_keys_values.reshape(t, 3, self.heads, -1).transpose(1, 2, 0, 3)
        queries, query_scale = _quantised(_turned(by_head[0], cosine, sine))
        keys, key_scale = _quantised(_turned(by_head[1], cosine, sine))
        scores = _times(_product(queries, keys), query_scale * self._root) * key_scale[:, None]
        scores = np.where(seen, scores, np.float32(-np.inf))
        shares = exp2(np.maximum(scores - scores.max(axis=-1, keepdims=True), _LOWEST))
        counts = np.rint(shares * _SHARES).astype(np.int32)  # what is not seen counts nothing
        columns, column_scale = _quantised(by_head[2].swapaxes(1, 2))
        high, low = (_product(digit, columns) for digit in np.divmod(counts, _DIGIT))
        total = high * np.float32(_DIGIT) + low
        out = _times(total, np.float32(1) / counts.sum(axis=-1).astype(np.float32)) * column_scale[:, None]
        return np.asarray(out.swapaxes(0, 1).reshape(t, -1))


def _times(x: NDArray[Any], factors: FloatArray) -> FloatArray:
    """Each row times its own factor."""
    return np.asarray(x * factors[..., None])


def _quantised(x: FloatArray) -> tuple[NDArray[Any], FloatArray]:
    """Rows as whole numbers within 127, and the scale of each."""
    most = np.maximum(np.abs(x).max(axis=-1), _TINY)
    return np.rint(_times(x, _LEVELS / most)), most / _LEVELS


def _product(a: NDArray[Any], b: NDArray[Any]) -> FloatArray:
    """Rows of a times rows of b, whole numbers within 127; some at a time, so that sums in float32 are exact."""
    single = (a.astype(np.float32, copy=False), b.astype(np.float32, copy=False).swapaxes(-1, -2))
    parts = [slice(i, i + _EXACT) for i in range(0, a.shape[-1], _EXACT)]
    each = [np.matmul(single[0][..., of], single[1][..., of, :]) for of in parts]
    return each[0] if len(each) == 1 else np.asarray(sum(part.astype(np.int32) for part in each), np.float32)


def _sums(x: FloatArray) -> FloatArray:
    lanes = np.zeros((len(x), _LANES), np.float32)
    for at in range(0, x.shape[1], _LANES):
        part = x[:, at : at + _LANES]
        lanes[:, : part.shape[1]] += part
    while lanes.shape[1] > 1:
        half = lanes.shape[1] // 2
        lanes = lanes[:, :half] + lanes[:, half:]
    return np.asarray(lanes[:, 0])


def _turned(x: FloatArray, cosine: FloatArray, sine: FloatArray) -> FloatArray:
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def exp2(x: FloatArray) -> FloatArray:
    """2 to the power of numbers from -126 to 0."""
    power = np.rint(x)
    return np.asarray(np.ldexp(_polynomial(_EXP2, x - power), power.astype(np.int32)))


def gelu(x: FloatArray) -> FloatArray:
    """The Gaussian error linear unit, x times the share of a normal distribution that lies below x."""
    size = np.minimum(np.abs(x) * np.float32(0.5**0.5), _ALL)
    power = _polynomial(_ERF, size)
    for _ in range(4):
        power = power * power
    erf = np.float32(1) - np.float32(1) / power
    return np.asarray(np.float32(0.5) * x * (np.float32(1) + np.copysign(erf, x)))


def _polynomial(factors: tuple[np.float32, ...], x: FloatArray) -> FloatArray:
    """From the factor of the highest power on."""
    total = np.full_like(x, factors[0])
    for factor in factors[1:]:
        total = total * x + factor
    return total
