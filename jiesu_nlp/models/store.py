"""The model folder: ``model.json`` and ``arrays.safetensors``; parse, check, build; nothing executes."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from jiesu_nlp.errors import ModelFormatError

FORMAT = 1
_DTYPES = {"F32": np.float32, "I8": np.int8, "U8": np.uint8}


def write_folder(folder: str | Path, meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a model folder; ``model.json`` last, so that a half-written folder does not load."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.json").unlink(missing_ok=True)
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (path / "arrays.safetensors").write_bytes(content)
    own = {"format": FORMAT, "arrays_sha256": sha256(content).hexdigest()}
    text = json.dumps(dict(meta) | own, ensure_ascii=False, indent=1, sort_keys=True)
    (path / "model.json").write_text(text + "\n", encoding="utf-8")


def read_folder(
    folder: str | Path, kind: str, expected: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Metadata and arrays of a model folder of one kind, with exactly the arrays and types expected.

    Raises:
        ModelFormatError: missing or damaged files, another format or kind, missing arrays.
    """
    path = Path(folder)
    try:
        meta = json.loads((path / "model.json").read_text(encoding="utf-8"))
        content = (path / "arrays.safetensors").read_bytes()
        arrays: dict[str, NDArray[Any]] = load(content)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelFormatError(f"{path}: not a readable model folder ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ModelFormatError(f"{path}: model.json is not of format {FORMAT}; train again with this version")
    if meta.get("kind") != kind:
        raise ModelFormatError(f"{path}: kind is {meta.get('kind')!r}, expected {kind!r}")
    if meta.get("arrays_sha256") != sha256(content).hexdigest():
        raise ModelFormatError(f"{path}: model.json and arrays.safetensors do not belong together; copy both again")
    for name, dtype in expected.items():
        if name not in arrays or arrays[name].dtype != _DTYPES[dtype]:
            raise ModelFormatError(f"{path}: array {name!r} of type {dtype} is missing; the folder is damaged")
    return meta, arrays
