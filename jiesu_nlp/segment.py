"""Word segmentation: jieba's dictionary plus the domain dictionary, by one of three engines.

``jieba`` (Python), ``rjieba`` (Rust) and the compiled part of this package cut runs of Chinese
characters identically; the first two differ only inside digits and Latin text, which are therefore cut
here and never shown to them. The fastest that is there is taken (``docs/performance.md``).
"""

import importlib.util
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jiesu_nlp import native
from jiesu_nlp.taxonomy import dictionary_words

Engine = Literal["auto", "compiled", "rjieba", "jieba"]

_RUN = re.compile(r"[\u4e00-\u9fd5]+|[\u3400-\u4dbf\u9fd6-\u9fff]|[a-z]+|[0-9]+")
"""Rare characters, which jieba leaves single and rjieba joins, stand apart."""
_FREQUENCY = 1000
"""Frequency given to a domain word (jieba's dictionary sums to 60 million): high enough that the
word wins over its parts, low enough that it does not swallow the first character of the next word."""


def segment(text: str, engine: Engine = "auto") -> list[str]:
    """Words of a text that `text.normalise` has folded; every number becomes ``"0"``."""
    return [word for _, word in segment_at(text, engine)]


def segment_at(text: str, engine: Engine = "auto") -> list[tuple[int, str]]:
    """Like `segment`, each word with the position where it starts."""
    chosen = _available(engine)
    if chosen == "compiled":
        return [(i, "0" if text[i] <= "9" else text[i:j]) for i, j in compiled().words(text)]
    cut = _cutter(chosen)
    words: list[tuple[int, str]] = []
    for match in _RUN.finditer(text):
        run, start = match.group(), match.start()
        if run[0] > "\u33ff":
            for word in cut(run):
                words.append((start, word))
                start += len(word)
        else:
            words.append((start, "0" if run[0] <= "9" else run))
    return words


def _available(engine: Engine) -> str:
    if engine != "auto":
        return engine
    if native.loaded():
        return "compiled"
    return "rjieba" if importlib.util.find_spec("rjieba") else "jieba"


@cache
def compiled() -> native.Segmenter:
    """The compiled engine, with jieba's data read from jieba's own files.

    Raises:
        ImportError: this package was installed without a C compiler.
    """
    found = importlib.util.find_spec("jieba")
    if found is None or not found.submodule_search_locations:
        raise ImportError("jieba is not installed; install it with `pip install jieba`")
    folder = Path(found.submodule_search_locations[0])
    tagger = {part: _constants(folder / "finalseg" / f"prob_{part}.py") for part in ("start", "trans", "emit")}
    return native.Segmenter((folder / "dict.txt").read_bytes(), tagger, dictionary_words(), _FREQUENCY)


def _constants(path: Path) -> Any:
    """``P`` of one of jieba's modules of constants; importing jieba itself would take longer than all else."""
    spec = importlib.util.spec_from_file_location(f"_jieba_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} of jieba cannot be read; install jieba again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.P


@cache
def _cutter(engine: str) -> Callable[[str], Iterable[str]]:
    return _rjieba() if engine == "rjieba" else _jieba()


def _rjieba() -> Callable[[str], Iterable[str]]:
    import rjieba

    tokenizer = rjieba.Jieba()
    for word in dictionary_words():
        tokenizer.add_word(word, _FREQUENCY, "n")
    cut: Callable[[str], Iterable[str]] = tokenizer.cut
    return cut


def _jieba() -> Callable[[str], Iterable[str]]:
    import jieba

    # A tokenizer of our own, filled by hand: the usual initialisation logs at DEBUG level and
    # reads a `marshal` cache from the shared temporary folder.
    tokenizer = jieba.Tokenizer()
    with tokenizer.get_dict_file() as file:
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(file)
    tokenizer.initialized = True
    for word in dictionary_words():
        # rjieba takes a replaced word's old frequency out of the total; jieba forgets to, which
        # tips a few near ties ("多少次") the other way.
        tokenizer.total -= tokenizer.FREQ.get(word, 0)
        tokenizer.add_word(word, _FREQUENCY)
    cut: Callable[[str], Iterable[str]] = tokenizer.cut
    return cut
