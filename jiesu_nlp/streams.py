"""Tables of any length, read in chunks and written in parts: csv, tsv, xlsx, jsonl and parquet."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from glob import glob, has_magic
from itertools import islice
from pathlib import Path
from typing import Any

from jiesu_nlp.errors import TableError
from jiesu_nlp.tables import shown

Row = dict[str, Any]
ENDINGS = (".csv", ".tsv", ".xlsx", ".jsonl", ".ndjson", ".parquet")
_BLOCK = 1 << 20
_BATCH = 2000
_LOST, _FEW_LOST = "\ufffd", 0.02
_HAN = re.compile(r"[\u4e00-\u9fff]")
_XLSX_ROWS, _XLSX_CHARS = 1_048_575, 32_767
_TOO_MUCH = "an xlsx sheet cannot hold so many rows, or so long a cell; name a csv file"


@dataclass(frozen=True, slots=True)
class Broken:
    """What stands where a row should: why it is none, and the cells that are there."""

    reason: str
    cells: Row


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive rows of one file.

    Attributes:
        number: of the chunk in the whole job, from 0. first: number of its first row in the file, from 1.
        rows: one mapping a row; broken: ``{position: reason}`` of those that are not rows of the table, of
            which `rows` has what can be told of their cells.
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
    found: dict[Path, Path] = {}
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
        found |= {p.resolve(): p for p in matches if p.is_file() and p.suffix.lower() in ENDINGS}
    if not found:
        raise TableError(f"no table among {', '.join(map(str, inputs))}; endings are {' '.join(ENDINGS)}")
    return list(found.values())


def read_chunks(paths: Sequence[Path], size: int) -> Iterator[Chunk]:
    """All rows of the files in order, `size` at a time; a chunk never spans two files."""
    number = 0
    for path in paths:
        first = 1
        rows = _READERS[path.suffix.lower()](path)
        while some := list(islice(rows, size)):
            broken = {i: row.reason for i, row in enumerate(some) if isinstance(row, Broken)}
            cells = [row.cells if isinstance(row, Broken) else row for row in some]
            yield Chunk(number, path.name, first, cells, broken)
            number, first = number + 1, first + len(some)


def columns_of(paths: Sequence[Path]) -> list[str]:
    """The columns of the first file, which all others must have too; of jsonl, those of any row.

    Raises:
        TableError: a file cannot be read, has no rows, or has other columns.
    """
    columns: list[str] = []
    for path in paths:
        ending = path.suffix.lower()
        rows = _READERS[ending](path)
        # The first row tells all of a table's columns, but of jsonl, where each row has its own.
        some = rows if ending in (".jsonl", ".ndjson") else islice(rows, 1)
        own = list(dict.fromkeys(name for row in some for name in (row.cells if isinstance(row, Broken) else row)))
        if columns and own and own != columns and ending not in (".jsonl", ".ndjson"):
            raise TableError(f"{path.name}: has columns {shown(own)}, the first file {shown(columns)}")
        columns += [name for name in own if name not in columns]
    if not columns:
        raise TableError(f"{', '.join(path.name for path in paths)}: no rows")
    return columns


def _separated(path: Path) -> Iterator[Row | Broken]:
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
                    known = dict.fromkeys(header) | dict(zip(header, cells, strict=False))
                    yield Broken(f"{len(cells)} cells where the header has {len(header)}", known)
        except csv.Error as error:
            raise TableError(f"{path.name}: line {reader.line_num} cannot be read ({error})") from None


def _encoding(path: Path) -> str:
    """UTF-8, unless the file is none and reads better as GB18030, which Excel writes in Chinese.

    A UTF-8 file with a few characters cut in half, as systems that count bytes leave them, stays UTF-8.
    """
    decoders = {name: codecs.getincrementaldecoder(name)("replace") for name in ("utf-8", "gb18030")}
    lost, han = Counter[str](), Counter[str]()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for name, decoder in () if block.isascii() else decoders.items():
                text = decoder.decode(block)
                lost[name] += text.count(_LOST)
                han[name] += len(_HAN.findall(text))
    reads = lost["utf-8"] <= _FEW_LOST * (han["utf-8"] + lost["utf-8"]) and (han["utf-8"] or not han["gb18030"])
    return "utf-8-sig" if reads else "gb18030"


def _json_lines(path: Path) -> Iterator[Row | Broken]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) else Broken("the line is no JSON object", {})


def _parquet(path: Path) -> Iterator[Row | Broken]:
    import polars as pl

    for some in pl.scan_parquet(path).collect_batches(chunk_size=_BATCH, maintain_order=True):
        yield from some.iter_rows(named=True)


def _xlsx(path: Path) -> Iterator[Row | Broken]:
    import polars as pl

    yield from pl.read_excel(path, infer_schema_length=0).iter_rows(named=True)


def _named(reader: Callable[[Path], Iterator[Row | Broken]]) -> Callable[[Path], Iterator[Row | Broken]]:
    def read(path: Path) -> Iterator[Row | Broken]:
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
        lines = (json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
        return "".join(lines).encode("utf-8", "replace")
    if ending == ".parquet":
        import polars as pl

        buffer = io.BytesIO()
        columns_of_part = [_series(name, [row.get(name) for row in rows]) for name in columns]
        pl.DataFrame(columns_of_part).write_parquet(buffer, compression="lz4")
        return buffer.getvalue()
    text = io.StringIO()
    # Lines end in \r\n so that a lone \r in a cell is quoted.
    writer = csv.writer(text, delimiter="\t" if ending == ".tsv" else ",", lineterminator="\r\n")
    writer.writerows(["" if (cell := row.get(name)) is None else cell for name in columns] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _series(name: str, cells: list[Any]) -> Any:
    """A column for parquet; nested cells, which jsonl and parquet have, become JSON text."""
    import polars as pl

    if not {dict, list}.isdisjoint(map(type, cells)):
        cells = [json.dumps(c, ensure_ascii=False, default=str) if isinstance(c, dict | list) else c for c in cells]
    try:
        return pl.Series(name, cells, strict=False)
    except UnicodeEncodeError:  # half of a character, as JSON can write it
        whole = (c.encode("utf-8", "replace").decode() if isinstance(c, str) else c for c in cells)
        return pl.Series(name, list(whole), strict=False)


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
        book.set_properties({"created": datetime(2000, 1, 1)})  # the same rows, the same bytes
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, columns)
        line = 0
        for part in parts:
            for line, cells in enumerate(_cells(part), line + 1):  # noqa: B020
                if line > _XLSX_ROWS or max(map(len, cells), default=0) > _XLSX_CHARS:
                    raise TableError(_TOO_MUCH)
                for column, cell in enumerate(cells):
                    sheet.write_string(line, column, cell)


def _cells(part: Path) -> Iterator[list[str]]:
    with part.open(encoding="utf-8", newline="") as file:
        try:
            yield from csv.reader(file)
        except csv.Error:  # the reader has a limit of its own, above a sheet's
            raise TableError(_TOO_MUCH) from None
