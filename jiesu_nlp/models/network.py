"""What an encoder's network is kept as: 8-bit integers that we multiply ourselves, or ONNX for onnxruntime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.extras import need
from jiesu_nlp.models.base import FloatArray
from jiesu_nlp.models.modernbert import ModernBert
from jiesu_nlp.models.store import read_file

Run = Callable[[NDArray[np.int64]], FloatArray]


class Network(Protocol):
    """Token ids (n, t), no padding, to logits (n, t, columns)."""

    @property
    def FILE(self) -> str:  # noqa: N802
        """Name of the file that it is kept in."""

    def runner(self) -> Run:
        """What runs it, from several threads."""

    def stored(self) -> tuple[dict[str, Any], bytes]:
        """Settings for ``model.json``, and the file's content."""


@dataclass(frozen=True)
class OnnxNetwork:
    """An ONNX model with the input ``input_ids``: any encoder."""

    content: bytes

    FILE = "network.onnx"

    def runner(self) -> Run:
        """A session of onnxruntime."""
        need("onnx", "onnxruntime")
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.log_severity_level = 3
        # One thread a batch and several batches at a time: small products do not gain from splitting.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
        return lambda ids: np.asarray(session.run(None, {"input_ids": ids})[0])

    def stored(self) -> tuple[dict[str, Any], bytes]:
        """The content says all."""
        return {}, self.content


def read_network(folder: str, meta: Mapping[str, Any]) -> Network:
    """The network of a model folder.

    Raises:
        ModelFormatError: missing, damaged, or of settings that do not fit.
    """
    settings = meta.get("network")
    if not settings:
        return OnnxNetwork(read_file(folder, meta, OnnxNetwork.FILE))
    content = read_file(folder, meta, ModernBert.FILE)
    try:
        return ModernBert.restored(settings, content)
    except ValueError as error:
        raise ModelFormatError(f"{folder}: {ModernBert.FILE} cannot be run: {error}") from error
