"""Finding the compiled library, and its functions' types: nothing but C's own calls, through ctypes."""

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

VERSION = 4
"""Of the functions below, as the sources have it."""
LIBRARIES = ("libjiesu.so", "libjiesu.dylib", "jiesu.dll")


@cache
def loaded() -> ctypes.CDLL | None:
    """The compiled library, or ``None`` where it is not there or the environment says ``JIESU_COMPILED=0``."""
    if os.environ.get("JIESU_COMPILED") == "0":
        return None
    for name in LIBRARIES:
        if (path := Path(__file__).parent / name).exists():
            try:
                found = ctypes.CDLL(str(path))
                if found.native_version() == VERSION:
                    return _declared(found)
            except (OSError, AttributeError):  # of another machine or other sources, or damaged
                continue
    return None


def required() -> ctypes.CDLL:
    """The compiled library.

    Raises:
        ImportError: it is not there.
    """
    if (found := loaded()) is None:
        raise ImportError("the compiled part of jiesu_nlp is not there; install the package again with a C compiler")
    return found


def made(handle: int | None) -> int:
    """What a function that makes something returned.

    Raises:
        MemoryError: it returned nothing.
    """
    if not handle:
        raise MemoryError
    return handle


def address(array: NDArray[Any]) -> Any:
    """An array's address; unlike the bare number, it keeps the array alive until the call is over."""
    return array.ctypes


def _declared(lib: ctypes.CDLL) -> ctypes.CDLL:
    """State each function's types, which ctypes would guess wrongly for pointers."""
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "segmenter_new": (pointer, [pointer] * 3 + [size]),
        "segmenter_read": (ctypes.c_long, [pointer, text, size]),
        "segmenter_add": (ctypes.c_int, [pointer, pointer, size, ctypes.c_double, ctypes.c_int]),
        "segmenter_ready": (None, [pointer]),
        "segmenter_words": (ctypes.c_long, [pointer, pointer, size, pointer, pointer]),
        "segmenter_free": (None, [pointer]),
        "text_fold": (None, [pointer, size]),
        "vocabulary_new": (pointer, [pointer, pointer, size]),
        "openings_find": (ctypes.c_long, [pointer] * 7 + [size, text, size, pointer, pointer, size]),
        "vocabulary_free": (None, [pointer]),
        "counter_new": (pointer, [pointer] * 5),
        "counter_room": (size, [pointer, text, size]),
        "counter_score": (
            ctypes.c_int,
            [pointer, pointer, text, text, size, pointer, pointer, size, pointer, pointer, size, *[pointer] * 4],
        ),
        "counter_strongest": (
            None,
            [*[pointer] * 3, size, pointer, size, pointer, ctypes.c_int32, size, pointer, pointer],
        ),
        "counter_free": (None, [pointer]),
        "encoder_level": (ctypes.c_int, []),
        "encoder_new": (pointer, [pointer] * 4 + [ctypes.c_int]),
        "encoder_run": (ctypes.c_int, [pointer, pointer, size, size, pointer]),
        "encoder_free": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
