"""Normalising and checking one text. Every step keeps the length, so offsets stay the caller's."""

import re

from jiesu_nlp import native
from jiesu_nlp.errors import EmptyTextError, NoChineseError, TextTooLongError, TextTypeError

MAX_CHARS = 100_000
"""Longest text that is accepted, in characters; the longest real ticket seen has under 30,000."""

_LEAD_CHARS = 60
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_SENTENCE_END = re.compile(r"[\n。!?;]")

# Full-width ASCII and the ideographic space to half-width; capitals to lower case. `str.lower`
# and NFKC may change the length, which would move the offsets of evidence.
_FOLD = {c: c - 0xFEE0 for c in range(0xFF01, 0xFF5F)} | {0x3000: 0x20, 0x0D: 0x0A}
_FOLD |= {c: c + 32 for c in range(0x41, 0x5B)} | {c: c - 0xFEE0 + 32 for c in range(0xFF21, 0xFF3B)}


def check_text(text: object) -> str:
    """Return ``text`` if it can be classified.

    Raises:
        TextTypeError: not a string.
        TextTooLongError: longer than `MAX_CHARS` characters.
        EmptyTextError: empty or white space.
        NoChineseError: without one Chinese character.
    """
    if not isinstance(text, str):
        raise TextTypeError(f"expected a string, got {type(text).__name__}; pass the complaint's text")
    if len(text) > MAX_CHARS:
        raise TextTooLongError(f"the text has {len(text)} characters; cut it to at most {MAX_CHARS}")
    if not text.strip():
        raise EmptyTextError("the text is empty; pass at least one sentence of the complaint")
    if not _HAN.search(text):
        raise NoChineseError("the text has no Chinese characters; this library reads Chinese complaints")
    return text


def normalise(text: str) -> str:
    """Fold width and case, character for character: ``len(normalise(t)) == len(t)``."""
    return native.fold(text) if native.loaded() else text.translate(_FOLD)


def lead(text: str) -> str:
    """The first sentence of a normalised text (its title, where it has one), at most 60 characters."""
    head = text.lstrip()[:_LEAD_CHARS]
    end = _SENTENCE_END.search(head)
    return head[: end.start()] if end else head


def join_fields(*fields: str | None) -> str:
    """Title, body and further fields as one text, each on lines of its own; empty ones are left out."""
    return "\n".join(field.strip() for field in fields if field and field.strip())
