"""Tables of any length, read in chunks and written in parts: csv, tsv, xlsx, jsonl and parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import Any

from jiesu_nlp.errors import TableError

Row = dict[str, Any]
ENDINGS = (".csv", ".tsv", ".xlsx", ".jsonl", ".ndjson", ".parquet")
_PROBE = 1 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive rows of one file.

    Attributes:
        number: of the chunk in the whole job, from 0. first: number of its first row in the file, from 1.
        rows: one mapping a row; broken: ``{position: reason}`` of those that are not rows of the table.
    """

    number: int
    file: str
    first: int
    rows: list[Row]
    broken: dict[int, str]


def find_tables(inputs: Sequence[str | Path]) -> list[Path]:
    """The files that names, folders and globs stand for, each once, folders and globs in name order.

    Raises:
        TableError: a file that is not there or is no table, or nothing at all.
    """
    found: list[Path] = []
    for one in map(str, inputs):
        if has_magic(one) and not Path(one).exists():
            matches = [Path(name) for name in sorted(glob(one, recursive=True))]  # noqa: PTH207 (takes absolute patterns)
        elif Path(one).is_dir():
            matches = sorted(Path(one).iterdir())
        else:
            matches = [Path(one)]
            if not matches[0].is_file():
                raise TableError(f"{one}: there is no such file")
            if matches[0].suffix.lower() not in ENDINGS:
                raise TableError(f"{matches[0].name}: the ending is not one of {' '.join(ENDINGS)}")
        found += [path for path in matches if path.is_file() and path.suffix.lower() in ENDINGS]
    if not found:
        raise TableError(f"no table among {', '.join(map(str, inputs))}; endings are {' '.join(ENDINGS)}")
    return list(dict.fromkeys(found))


def read_chunks(paths: Sequence[Path], size: int) -> Iterator[Chunk]:
    """All rows of the files in order, `size` at a time; a chunk never spans two files."""
    number = 0
    for path in paths:
        first = 1
        rows = _READERS[path.suffix.lower()](path)
        while some := list(islice(rows, size)):
            broken = {i: row for i, row in enumerate(some) if isinstance(row, str)}
            yield Chunk(number, path.name, first, [{} if isinstance(row, str) else row for row in some], broken)
            number, first = number + 1, first + len(some)


def columns_of(paths: Sequence[Path]) -> list[str]:
    """The columns of the first file, which all others must have too; of jsonl, those of any row.

    Raises:
        TableError: a file cannot be read, has no rows, or has other columns.
    """
    columns: list[str] = []
    for path in paths:
        rows = _READERS[path.suffix.lower()](path)
        whole = path.suffix.lower() in (".jsonl", ".ndjson")
        own: dict[str, None] = {}
        for row in rows if whole else islice(rows, 1):
            own.update(dict.fromkeys(row if isinstance(row, dict) else ()))
        if not own:
            raise TableError(f"{path.name}: has no rows")
        if columns and not whole and list(own) != columns:
            raise TableError(f"{path.name}: has columns {', '.join(own)}, the first file {', '.join(columns)}")
        columns += [name for name in own if name not in columns]
    return columns


def _separated(path: Path) -> Iterator[Row | str]:
    encoding = _encoding(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            header = next(reader, [])
            if len(set(header)) < len(header):
                raise TableError(f"{path.name}: two columns have one name")
            for cells in reader:
                if len(cells) == len(header):
                    yield dict(zip(header, cells, strict=True))
                elif cells:
                    yield f"{len(cells)} cells where the header has {len(header)}"
        except csv.Error as error:
            raise TableError(f"{path.name}: line {reader.line_num} cannot be read ({error})") from None


def _encoding(path: Path) -> str:
    """UTF-8 if the beginning of the file is, else GB18030, which Excel writes in Chinese."""
    with path.open("rb") as file:
        start = file.read(_PROBE)
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:  # not merely cut inside a character
            return "gb18030"
    return "utf-8-sig"


def _json_lines(path: Path) -> Iterator[Row | str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            yield row if isinstance(row, dict) else "the line is no JSON object"


def _parquet(path: Path) -> Iterator[Row | str]:
    import polars as pl

    rows, step = pl.scan_parquet(path), 2000
    total = rows.select(pl.len()).collect().item()
    for start in range(0, total, step):
        yield from rows.slice(start, step).collect().iter_rows(named=True)


def _xlsx(path: Path) -> Iterator[Row | str]:
    import polars as pl

    yield from pl.read_excel(path, infer_schema_length=0).iter_rows(named=True)


def _named(reader: Callable[[Path], Iterator[Row | str]]) -> Callable[[Path], Iterator[Row | str]]:
    def read(path: Path) -> Iterator[Row | str]:
        try:
            yield from reader(path)
        except (TableError, GeneratorExit):
            raise
        except Exception as error:  # polars and fastexcel raise many types
            raise TableError(f"{path.name}: cannot be read ({type(error).__name__})") from None

    return read


_READERS = {
    ".csv": _named(_separated),
    ".tsv": _named(_separated),
    ".jsonl": _named(_json_lines),
    ".ndjson": _named(_json_lines),
    ".parquet": _named(_parquet),
    ".xlsx": _named(_xlsx),
}


def write_part(rows: Sequence[Row], columns: Sequence[str], ending: str) -> bytes:
    """Rows as a part of a file with this ending; parts of one table are put together by `join_parts`.

    An xlsx file has csv parts. A csv part has no header.
    """
    if ending in (".jsonl", ".ndjson"):
        return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows).encode()
    if ending == ".parquet":
        import polars as pl

        buffer = io.BytesIO()
        cells = {name: [_cell(row.get(name)) for row in rows] for name in columns}
        pl.DataFrame({name: pl.Series(name, values, strict=False) for name, values in cells.items()}).write_parquet(
            buffer
        )
        return buffer.getvalue()
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\n")
    writer.writerows(["" if (cell := row.get(name)) is None else cell for name in columns] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def join_parts(parts: Sequence[Path], columns: Sequence[str], out: Path, ending: str) -> None:
    """Write the parts to `out` as one table."""
    if ending == ".parquet":
        import polars as pl

        frames = pl.concat([pl.scan_parquet(part) for part in parts], how="vertical_relaxed")
        frames.sink_parquet(out)
    elif ending == ".xlsx":
        _join_xlsx(parts, columns, out)
    else:
        with out.open("wb") as file:
            if ending in (".csv", ".tsv"):
                head = write_part([dict(zip(columns, columns, strict=True))], columns, ending)
                file.write(b"\xef\xbb\xbf" + head)  # the mark by which Excel knows UTF-8
            for part in parts:
                file.write(part.read_bytes())


def _join_xlsx(parts: Sequence[Path], columns: Sequence[str], out: Path) -> None:
    import xlsxwriter

    settings: Mapping[str, Any] = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(str(out), dict(settings)) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, columns)
        line = 0
        for part in parts:
            with part.open(encoding="utf-8", newline="") as file:
                for line, cells in enumerate(csv.reader(file), line + 1):  # noqa: B020
                    for column, cell in enumerate(cells):
                        sheet.write_string(line, column, cell)
