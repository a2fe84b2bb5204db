"""The facts: label sets, aliases, crosswalk, dictionary and cue tables, read from one folder.

This is the only module that knows the files of ``data/labels/``. A folder holds
``taxonomy.toml`` (name, version, the file of each head), one CSV file a head, and, where they are
wanted, ``aliases.csv`` and ``mapping.csv``. Every error names the file and the line.
"""

import csv
import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path

from jiesu_nlp.errors import TaxonomyError, TaxonomyMismatchError, UnknownLabelError

_LONGEST_NAME = 16


@dataclass(frozen=True, slots=True)
class Label:
    """One code of a head. `parent` is 七有 or 五性 for a category, the kind of body for a department."""

    code: str
    name: str
    english: str = ""
    parent: str = ""
    definition: str = ""
    includes: str = ""
    excludes: str = ""
    source: str = ""


@dataclass(frozen=True)
class Taxonomy:
    """A named, versioned set of heads, each an ordered tuple of labels.

    Attributes:
        heads: in the order of their names, whatever order they were given in: a model's columns follow it.
        mapping: ``{head: {old code: new codes}}`` of renamed, merged and split codes.
    """

    name: str
    version: str
    heads: Mapping[str, tuple[Label, ...]]
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    mapping: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", dict(sorted(self.heads.items())))

    @classmethod
    def load(cls, folder: str | Path | None = None) -> "Taxonomy":
        """Read a taxonomy folder, the packaged one when ``None``.

        Raises:
            TaxonomyError: something is missing or malformed; the message gives file and line.
        """
        return _load(Path(folder) if folder else labels_folder())

    @classmethod
    def from_values(cls, columns: Mapping[str, Iterable[str]], name: str = "ad-hoc") -> "Taxonomy":
        """A taxonomy made of the values that label columns hold: code and name are the value."""
        heads = {head: tuple(Label(v, v) for v in sorted(set(values))) for head, values in columns.items()}
        return cls(name, "0", heads)

    def codes(self, head: str) -> tuple[str, ...]:
        """The codes of a head, in order."""
        if head not in self.heads:
            raise TaxonomyError(f"taxonomy {self.name!r} has no head {head!r}; it has {', '.join(self.heads)}")
        return tuple(label.code for label in self.heads[head])

    def label(self, head: str, code: str) -> Label:
        """The label with this code."""
        return self.heads[head][self.codes(head).index(code)]

    def find(self, head: str, value: object) -> str | None:
        """The code that a table's cell means: a code, an official name, or an alias; else ``None``."""
        return self._known[head].get(str(value).strip())

    def resolve(self, head: str, value: object) -> str:
        """As `find`.

        Raises:
            UnknownLabelError: no code, name or alias; the message offers the nearest ones.
        """
        code = self.find(head, value)
        if code is not None:
            return code
        near = difflib.get_close_matches(str(value).strip(), self._known[head], n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(near)}?" if near else "."
        raise UnknownLabelError(
            f"{head}: {quoted(value)} is no code, name or alias{hint} Add it to aliases.csv or correct the table."
        )

    @cached_property
    def _known(self) -> dict[str, dict[str, str]]:
        """What a cell of each head may say, and the code that it means: a code before a name before an alias."""
        known = {head: dict(self.aliases.get(head, {})) for head in self.heads}
        for head, labels in self.heads.items():
            known[head].update((label.name, label.code) for label in labels)
            known[head].update((label.code, label.code) for label in labels)
        return known

    @property
    def hash(self) -> str:
        """SHA-256 over heads, codes, names and parents, first 16 hex digits: over what a model keeps of its labels."""
        return hashlib.sha256(json.dumps(self._kept(), ensure_ascii=False).encode()).hexdigest()[:16]

    def migrate(self, head: str, old_codes: Sequence[str]) -> list[int]:
        """For each old code, the position of the code that took its place in this taxonomy.

        Raises:
            TaxonomyMismatchError: an old code is gone without a mapping, or was split (then new
                labels are needed), or a code here has no predecessor; the message names them.
        """
        codes, mapping = self.codes(head), self.mapping.get(head, {})
        targets = {old: mapping.get(old, (old,)) for old in old_codes}
        split = [f"{old} → {', '.join(new)}" for old, new in targets.items() if len(new) > 1]
        if split:
            raise TaxonomyMismatchError(f"{head}: split codes need new labels and training: {'; '.join(split)}")
        lost = [old for old, (new,) in targets.items() if new not in codes]
        added = sorted(set(codes) - {new for (new,) in targets.values()})
        if lost or added:
            raise TaxonomyMismatchError(
                f"{head}: the model knows {lost or 'no code'} that taxonomy {self.name} {self.version} lacks, and "
                f"lacks {added or 'none'}; say in mapping.csv (head,old,new) what became of them, or retrain"
            )
        return [codes.index(new) for (new,) in targets.values()]

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form, kept inside a model so that it needs no folder."""
        heads = self._kept()
        aliases = {head: dict(known) for head, known in self.aliases.items() if head in heads}
        return {"name": self.name, "version": self.version, "hash": self.hash, "heads": heads, "aliases": aliases}

    def _kept(self) -> dict[str, list[tuple[str, ...]]]:
        return {head: [astuple(label)[:4] for label in labels] for head, labels in self.heads.items()}


def quoted(cell: object) -> str:
    """A label's cell for a message; not a long one, which may be a citizen's text in a column of no labels."""
    text = str(cell).strip()
    return repr(text) if len(text) <= _LONGEST_NAME else f"a cell of {len(text)} characters"


def labels_folder() -> Path:
    """The packaged ``labels`` folder: inside the wheel, or ``data/labels`` of a checkout."""
    here = Path(__file__).parent
    packaged = here / "labels"
    return packaged if packaged.is_dir() else here.parent / "data" / "labels"


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row of a CSV file that must have exactly these columns.

    Raises:
        TaxonomyError: unreadable, other header, or a row of another width.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            if header != list(columns):
                raise TaxonomyError(f"{path.name}:1: the header must be {','.join(columns)}")
            for row in reader:
                if len(row) != len(columns):
                    raise TaxonomyError(f"{path.name}:{reader.line_num}: {len(row)} cells, expected {len(columns)}")
                yield reader.line_num, dict(zip(columns, row, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TaxonomyError(f"{path.name}: cannot be read as UTF-8 CSV ({error})") from error


@cache
def packaged_table(name: str, *columns: str) -> tuple[dict[str, str], ...]:
    """Rows of one of the packaged tables, such as ``cues`` or ``handling``."""
    return tuple(row for _, row in read_csv(labels_folder() / f"{name}.csv", columns))


def dictionary_words(*kinds: str) -> list[str]:
    """Words of the domain dictionary, of all kinds or of those named."""
    return [row["word"] for row in packaged_table("dictionary", "word", "kind") if not kinds or row["kind"] in kinds]


def crosswalk() -> dict[tuple[str, str, str], tuple[str, str]]:
    """``{(level1, level2, level3): (category, department)}`` for the three-level scheme, 517 rows."""
    columns = ("level1", "level2", "level3", "category", "department", "confidence")
    rows = packaged_table("crosswalk", *columns)
    return {(r["level1"], r["level2"], r["level3"]): (r["category"], r["department"]) for r in rows}


def _load(folder: Path) -> Taxonomy:
    toml = folder / "taxonomy.toml"
    try:
        meta = tomllib.loads(toml.read_text(encoding="utf-8"))
        name, version, files = str(meta["name"]), str(meta["version"]), dict(meta["heads"])
    except OSError as error:
        raise TaxonomyError(f"{toml}: cannot be read; a taxonomy folder needs a taxonomy.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise TaxonomyError(f"taxonomy.toml: needs name, version and a [heads] table ({error})") from error
    heads = {head: tuple(_labels(folder / file)) for head, file in files.items()}
    bare = Taxonomy(name, version, heads)
    aliases: dict[str, dict[str, str]] = {head: {} for head in heads}
    for line, row in _optional(folder / "aliases.csv", ("head", "alias", "code", "note")):
        where = f"aliases.csv:{line}"
        if row["head"] not in heads:
            raise TaxonomyError(f"{where}: no head {row['head']!r}")
        if row["code"] not in bare.codes(row["head"]):
            raise TaxonomyError(f"{where}: no code {row['code']!r} in {row['head']}")
        meant = bare.find(row["head"], row["alias"]) or aliases[row["head"]].setdefault(row["alias"], row["code"])
        if meant != row["code"]:
            raise TaxonomyError(f"{where}: {row['alias']!r} already means {meant!r}")
    mapping: dict[str, dict[str, tuple[str, ...]]] = {}
    for line, row in _optional(folder / "mapping.csv", ("head", "old", "new")):
        if row["head"] not in heads or row["new"] not in bare.codes(row["head"]):
            raise TaxonomyError(f"mapping.csv:{line}: {row['head']} has no code {row['new']!r}")
        known = mapping.setdefault(row["head"], {})
        known[row["old"]] = (*known.get(row["old"], ()), row["new"])
    return Taxonomy(name, version, heads, aliases, mapping)


def _optional(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    return read_csv(path, columns) if path.exists() else iter(())


def _labels(path: Path) -> Iterator[Label]:
    seen: dict[str, set[str]] = {"code": set(), "name": set()}
    for line, row in read_csv(path, [f.name for f in fields(Label)]):
        for column, known in seen.items():
            if not row[column].strip():
                raise TaxonomyError(f"{path.name}:{line}: code and name must not be empty")
            if row[column] in known:
                raise TaxonomyError(f"{path.name}:{line}: {column} {row[column]!r} stands twice")
            known.add(row[column])
        yield Label(**row)
    if len(seen["code"]) < 2:
        raise TaxonomyError(f"{path.name}: a head needs at least two codes")
