"""How well emergencies are told from what only sounds like one (data/emergencies/).

python benchmarks/emergencies.py
"""

from collections.abc import Iterable

from train_default import DATA, ROOT, rows

from jiesu_nlp.cues import find_cues
from jiesu_nlp.handling import emergency_line
from jiesu_nlp.text import join_fields

ORDINARY = ("life", "matters", "portal", "short", "tickets")
"""Written complaints of every kind, none of which is an emergency."""
REAL = ("messages", "hangzhou_board", "beijing_letters", "river_tickets")
"""Letters to leaders and tickets about rivers: next to none of them is an emergency."""


def line(text: str) -> str:
    """The line that a text is passed on to, or nothing."""
    return emergency_line(cue.kind for cue in find_cues(text))


def report(name: str, texts: Iterable[dict[str, str]]) -> None:
    said = [(row["line"], line(row["text"])) for row in texts]
    real = [(asked, got) for asked, got in said if asked]
    found = sum(bool(got) for _, got in real)
    false = sum(bool(got) for asked, got in said if not asked)
    if real:
        right = sum(asked == got for asked, got in real)
        print(f"{name:<20} emergencies found {found} of {len(real)} = {found / len(real):.2f}, with their line {right}")
    print(f"{name:<20} others taken for one {false} of {len(said) - len(real)}")


def main() -> None:
    for name in ("known", "unseen"):
        texts = rows(ROOT / "data" / "emergencies" / f"{name}.jsonl")
        for style in sorted({row["style"] for row in texts}):
            report(f"{name}, {style}", (row for row in texts if row["style"] == style))
    for name in ("emergencies", *ORDINARY):
        samples = rows(ROOT / "data" / "samples" / f"{name}.jsonl")
        report(
            f"known, {name}",
            ({"line": row.get("line", ""), "text": join_fields(row["title"], row["body"])} for row in samples),
        )
    for name in REAL:
        real = rows(DATA / f"{name}.jsonl")
        taken = sum(bool(line(join_fields(row.get("title"), row["body"]))) for row in real)
        print(f"{name:<20} taken for one {taken} of {len(real)}")


if __name__ == "__main__":
    main()
