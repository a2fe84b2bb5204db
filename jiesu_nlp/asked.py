"""What is asked of a classifier: texts, with what is known about each."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

if TYPE_CHECKING:
    from jiesu_nlp.history import History


class Options(TypedDict, total=False):
    """Optional arguments of `classify`.

    Attributes:
        top: how many ranked labels. explain: whether to weigh the words, which takes time.
        history: past tickets to look the matter up in.
        at: when the ticket came in, by default the clock on the wall, as tables have it; only tickets
            before it are looked at.
        place: where, if a column says so. Of a list of texts, `at` and `place` may be lists too.
    """

    top: int
    explain: bool
    history: "History | None"
    at: datetime | Sequence[datetime | None] | None
    place: str | Sequence[str | None] | None


class Asked(NamedTuple):
    """One text with what is known about it."""

    text: str
    at: datetime | None
    place: str | None


def read_options(texts: Sequence[str], options: Options) -> list[Asked]:
    """Texts with their time and place; one value serves all texts, a list has one for each."""
    if unknown := set(options) - set(Options.__annotations__):
        known = ", ".join(Options.__annotations__)
        raise TypeError(f"classify has no argument {', '.join(sorted(unknown))}; it has {known}")
    if options.get("top", 3) < 1:
        raise ValueError("top must be 1 or more")
    columns: list[Sequence[Any]] = []
    for value in (options.get("at"), options.get("place")):
        one_for_all = value is None or isinstance(value, str | datetime)
        columns.append([value] * len(texts) if one_for_all else list(value))  # type: ignore[arg-type]
        if len(columns[-1]) != len(texts):
            raise ValueError(f"{len(texts)} texts, but {len(columns[-1])} values of at= or place=; give one for each")
    return [Asked(*row) for row in zip(texts, *columns, strict=True)]
