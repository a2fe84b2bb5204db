"""How to dispatch (派单): the first rule of ``data/labels/handling.csv`` that fits."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from jiesu_nlp.taxonomy import packaged_table

_COLUMNS = ("code", "name", "cue", "intent", "department", "assisting", "basis", "note")


@dataclass(frozen=True)
class Handling:
    """A way of dispatch and the article of the regulation that it applies.

    Attributes:
        line: 110, 119, 120 or 122 for an emergency, else empty.
    """

    code: str
    name: str
    basis: str
    line: str = ""


def emergency_line(cues: Iterable[str]) -> str:
    """The line that hazards belong to, ``""`` without any.

    Of several the one with the highest number, which was right most often among known messages.
    """
    return max((kind.removeprefix("hazard:") for kind in cues if kind.startswith("hazard:")), default="")


def decide(intent: str, department: str, assisting: bool, cues: Collection[str]) -> Handling:
    """Apply the table of rules; an empty cell of a rule fits everything.

    Args:
        cues: kinds of the cues found in the text; ``hazard:119`` fits the rules for ``hazard``.
    """
    kinds = {kind.split(":")[0] for kind in cues}
    line = emergency_line(cues)
    for rule in packaged_table("handling", *_COLUMNS):
        if (
            (not rule["cue"] or rule["cue"] in kinds)
            and rule["intent"] in ("", intent)
            and rule["department"] in ("", department)
            and (not rule["assisting"] or assisting)
        ):
            return Handling(rule["code"], rule["name"], rule["basis"], line if rule["cue"] == "hazard" else "")
    raise AssertionError("the last rule of handling.csv must fit everything")
