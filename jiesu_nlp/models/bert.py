"""A fine-tuned encoder; neither torch nor transformers is imported here.

The network gives every token a logit for every code; a text's logits are the mean over its tokens. So
the pieces of a long text add up, and a word's contribution is exact: the sum over its tokens.
"""

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.extras import need
from jiesu_nlp.models.base import FloatArray, columns, joined, remade, softmaxes, stored_taxonomy, width
from jiesu_nlp.models.batcher import Batcher, Row
from jiesu_nlp.models.network import Network, read_network
from jiesu_nlp.models.store import check_arrays, read_file, read_folder, write_folder
from jiesu_nlp.models.wordpiece import Reading, framed, readable
from jiesu_nlp.segment import segment_at
from jiesu_nlp.taxonomy import Taxonomy

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

KIND = "bert"
TOKENIZER = "tokenizer.json"
_CHUNK = 256
_ARRAYS = {"scale": "F32", "bias": "F32"}


@dataclass(frozen=True)
class BertModel:
    """A fitted model.

    Attributes:
        taxonomy: heads and codes, in the order of the network's outputs.
        network: token ids (n, t), no padding, to logits (n, t, columns).
        tokenizer: ``tokenizer.json`` of the `tokenizers` library.
        scale, bias: the calibrator: a text's logits are ``scale * mean over its tokens + bias``.
        reading: how long texts are read.
        meta: name, version, metrics, thresholds, fingerprints; kept in ``model.json``.
    """

    taxonomy: Taxonomy
    network: Network
    tokenizer: bytes
    scale: FloatArray
    bias: FloatArray
    reading: Reading = field(default_factory=Reading)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        need("onnx", "tokenizers")
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_str(self.tokenizer.decode())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _special(self) -> tuple[int, int]:
        """Ids of the first token and of the last."""
        first, last = self._tokenizer.encode("").ids
        return first, last

    @cached_property
    def _batcher(self) -> Batcher:
        batcher = Batcher(self.network.runner(), threads())
        weakref.finalize(self, batcher.close)
        return batcher

    def rows(
        self, texts: Sequence[str]
    ) -> tuple[list[str], "list[Encoding]", list[list[NDArray[np.int64]]], list[Row]]:
        """Texts as they are shown, their tokens, which of these each piece shows, and the pieces' token ids."""
        shown = [readable(text) for text in texts]
        encodings = self._tokenizer.encode_batch(shown, add_special_tokens=False)
        pieces = [self.reading.pieces(len(encoding.ids)) for encoding in encodings]
        rows: list[Row] = []
        for encoding, parts in zip(encodings, pieces, strict=True):
            rows += framed(encoding.ids, parts, *self._special)
        return shown, encodings, pieces, rows

    def vectorise(self, texts: Sequence[str], run: Callable[[Sequence[Row]], list[Any]] | None = None) -> "Read":
        """Texts with the logits of all tokens that the encoder was shown.

        Args:
            run: another network than the model's own, from rows of token ids to their logits.
        """
        shown, encodings, pieces, rows = self.rows(texts)
        every = iter((run or self._batcher.map)(rows))
        logits = [np.concatenate([next(every) for _ in parts]) for parts in pieces]
        return Read(shown, encodings, pieces, logits)

    def probabilities(self, vectors: "Read") -> dict[str, FloatArray]:
        """Calibrated probabilities, ``{head: (n, k) float32}``; a row sums to 1."""
        logits = self.logits(vectors)
        return softmaxes(logits, columns(self.taxonomy))

    def logits(self, vectors: "Read") -> FloatArray:
        """Calibrated logits of all codes, shape (n, columns)."""
        means = [tokens.mean(axis=0) for tokens in vectors.logits]
        return np.array(means, np.float32).reshape(len(means), len(self.bias)) * self.scale + self.bias

    def predict_proba(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """`probabilities` of texts."""
        # Some at a time: the logits of all tokens of all texts would not fit.
        parts = [self.probabilities(self.vectorise(texts[at : at + _CHUNK])) for at in range(0, len(texts), _CHUNK)]
        return joined(parts or [self.probabilities(self.vectorise([]))])

    __reduce__ = remade

    def explain(self, vectors: "Read", head: str, codes: Sequence[str], top: int = 8) -> list[list[tuple[str, float]]]:
        """Words of each text and their signed weight for its code against the mean of the head, largest first.

        A word's weight is the sum over its tokens, each of which has read the whole text.
        """
        return [self._explain(vectors, row, head, code)[:top] for row, code in enumerate(codes)]

    def _explain(self, vectors: "Read", row: int, head: str, code: str) -> list[tuple[str, float]]:
        of = columns(self.taxonomy)[head]
        tokens, text = vectors.logits[row], vectors.texts[row]
        own = tokens[:, of] * self.scale[of] / len(tokens)
        weight = own[:, self.taxonomy.codes(head).index(code)] - own.mean(axis=1)
        word_at = np.full(len(text) + 1, -1)
        words = segment_at(text)
        for i, (start, word) in enumerate(words):
            word_at[start : start + len(word)] = i
        total: dict[str, float] = {}
        offsets, at = vectors.encodings[row].offsets, 0
        for part in vectors.pieces[row]:
            for token, position in enumerate(part, start=at + 1):
                i = word_at[offsets[position][0]]
                if i >= 0:
                    total[words[i][1]] = total.get(words[i][1], 0.0) + float(weight[token])
            at += len(part) + 2
        return sorted(total.items(), key=lambda pair: -abs(pair[1]))

    def with_meta(self, meta: Mapping[str, Any]) -> "BertModel":
        """The same model, saying this of itself."""
        return replace(self, meta=meta)

    def save(self, folder: str) -> None:
        """Write ``model.json``, ``arrays.safetensors``, the network's file and ``tokenizer.json``."""
        settings, content = self.network.stored()
        meta = dict(self.meta) | {"kind": KIND, "reading": asdict(self.reading), "taxonomy": self.taxonomy.to_dict()}
        meta["network"] = settings
        files = {self.network.FILE: content, TOKENIZER: self.tokenizer}
        write_folder(folder, meta, {"scale": self.scale, "bias": self.bias}, files)

    @classmethod
    def load(cls, folder: str) -> "BertModel":
        """Read a model folder.

        Raises:
            ModelFormatError: unreadable, damaged, of another kind or inconsistent.
        """
        meta, arrays = read_folder(folder, KIND, _ARRAYS)
        taxonomy = stored_taxonomy(folder, meta)
        try:
            reading = Reading(**meta["reading"])
        except (KeyError, TypeError) as error:
            raise ModelFormatError(f"{folder}: model.json is malformed ({error!r})") from error
        check_arrays(folder, arrays, dict.fromkeys(_ARRAYS, (width(taxonomy),)))
        network, tokenizer = read_network(folder, meta), read_file(folder, meta, TOKENIZER)
        model = cls(taxonomy, network, tokenizer, arrays["scale"], arrays["bias"], reading, meta)
        model._check(folder)
        return model

    def _check(self, folder: str) -> None:
        """Run one text, so that a network or tokenizer that does not fit is found now."""
        if (most := getattr(self.network, "positions", self.reading.length)) < self.reading.length:
            raise ModelFormatError(f"{folder}: texts are read {self.reading.length} tokens long, the encoder {most}")
        try:
            shape = self.vectorise(["热身"]).logits[0].shape
        except ImportError:
            raise
        except Exception as error:  # onnxruntime and tokenizers raise types of their own
            raise ModelFormatError(
                f"{folder}: {self.network.FILE} or {TOKENIZER} cannot be run ({type(error).__name__})"
            ) from error
        if shape[1:] != self.bias.shape:
            raise ModelFormatError(
                f"{folder}: {self.network.FILE} gives {shape[1:]} logits a token, not {self.bias.shape}"
            )


@dataclass(frozen=True)
class Read:
    """Texts that an encoder has read.

    Attributes:
        texts: as they were shown. encodings: their tokens.
        pieces: of each text, which tokens each piece showed.
        logits: of each text, shape (tokens shown, first and last of each piece included, columns).
    """

    texts: Sequence[str]
    encodings: "Sequence[Encoding]"
    pieces: Sequence[Sequence[NDArray[np.int64]]]
    logits: Sequence[FloatArray]


def threads() -> int:
    """Threads that encode at a time: ``OMP_NUM_THREADS``, as process pools set it, else all cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else os.cpu_count() or 1
