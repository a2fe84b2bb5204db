"""The model folder: ``model.json``, ``arrays.safetensors``, for some kinds further files; nothing executes.

Reading is parse, check, build: every file's hash stands in ``model.json``.
"""

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

FORMAT = 2
PACKAGED = {"default": "default_model", "accurate": "accurate_model"}
"""Models that are installed with the library, by the name that stands for their folder."""
_DEFAULT = "default"
_DTYPES = {"F32": np.float32, "I8": np.int8, "U8": np.uint8}


def write_folder(
    folder: str | Path,
    meta: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model folder; ``model.json`` last, so that a half-written folder does not load.

    Args:
        files: further files, by their path in the folder.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.json").unlink(missing_ok=True)
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    (path / "arrays.safetensors").write_bytes(content)
    own: dict[str, Any] = {"format": FORMAT, "arrays_sha256": sha256(content).hexdigest()}
    for name, data in (files or {}).items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(data)
        own.setdefault("files_sha256", {})[name] = sha256(data).hexdigest()
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
    meta = read_meta(path)
    try:
        content = (path / "arrays.safetensors").read_bytes()
        arrays: dict[str, NDArray[Any]] = load(content)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelFormatError(f"{path}: not a readable model folder ({error})") from error
    if meta.get("kind") != kind:
        raise ModelFormatError(f"{path}: kind is {meta.get('kind')!r}, expected {kind!r}")
    if meta.get("arrays_sha256") != sha256(content).hexdigest():
        raise ModelFormatError(f"{path}: model.json and arrays.safetensors do not belong together; copy both again")
    for name, dtype in expected.items():
        if name not in arrays or arrays[name].dtype != _DTYPES[dtype]:
            raise ModelFormatError(f"{path}: array {name!r} of type {dtype} is missing; the folder is damaged")
    return meta, arrays


def check_arrays(folder: str | Path, arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Check that arrays have their shapes and hold numbers.

    Raises:
        ModelFormatError: one has another shape, or numbers that are not finite.
    """
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ModelFormatError(f"{folder}: array {name!r} has shape {arrays[name].shape}, expected {shape}")
        if not np.isfinite(arrays[name]).all():
            raise ModelFormatError(f"{folder}: array {name!r} holds numbers that are not finite")


def model_folder(name: str | Path | None = None) -> Path:
    """The folder of a model: its path, or the name of one that is packaged; the default one when ``None``."""
    own = Path(name) if name else None
    packaged = PACKAGED.get(str(name or _DEFAULT))
    if own is not None and (packaged is None or own.exists()):
        return own
    return Path(__file__).parent.parent / str(packaged)


def read_meta(folder: str | Path) -> dict[str, Any]:
    """What ``model.json`` says.

    Raises:
        ModelFormatError: missing, damaged, or of another format version.
    """
    path = Path(folder)
    try:
        meta = json.loads((path / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path}: not a readable model folder ({error})") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ModelFormatError(f"{path}: model.json is not of format {FORMAT}; train again with this version")
    return meta


def read_file(folder: str | Path, meta: Mapping[str, Any], name: str, at: Path | None = None) -> bytes:
    """A further file of a model folder, checked against its hash.

    Args:
        at: where it lies, if not in the folder.

    Raises:
        ModelFormatError: missing, or not the one that was written with ``model.json``.
    """
    path = Path(folder)
    try:
        data = (at or path / name).read_bytes()
    except OSError as error:
        raise ModelFormatError(f"{path}: {name} cannot be read ({error.strerror}); copy the folder again") from error
    known = meta.get("files_sha256")
    if not isinstance(known, dict) or known.get(name) != sha256(data).hexdigest():
        raise ModelFormatError(f"{path}: model.json and {name} do not belong together; copy both again")
    return data
