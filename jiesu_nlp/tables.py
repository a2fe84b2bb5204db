"""Reading tables of tickets: csv, xlsx, jsonl and parquet, with the headers real hotline tables have."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jiesu_nlp.errors import TableError
from jiesu_nlp.text import join_fields

if TYPE_CHECKING:
    import polars as pl

_HEADERS: dict[str, tuple[str, ...]] = {
    "id": ("id", "工单编号", "工单号", "编号", "诉求编号", "ticket_id"),
    "title": ("title", "标题", "诉求标题", "工单标题", "留言主题", "主题"),
    "body": ("body", "text", "主要内容", "诉求内容", "工单内容", "内容", "留言详情", "正文", "tokens", "content"),
    "category": ("category", "标签", "七有五性", "类别", "分类"),
    "department": ("department", "承办单位", "主办单位", "部门", "答复单位"),
    "intent": ("intent", "工单类型", "诉求类型", "type"),
    "recurrence": ("recurrence", "未诉先办"),
    "second": ("second", "次选类别"),
    "co": ("co", "协办单位"),
    "time": ("time", "受理时间", "来电时间", "诉求时间", "留言时间"),
    "place": ("place", "地点", "小区", "地址"),
    "outcome": ("outcome", "办理结果", "是否解决", "解决情况"),
    "answered": ("answered", "办结时间", "回复时间", "答复时间", "reply_time"),
}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what. ``None`` where the table has no such column."""

    id: str | None
    text: tuple[str, ...]
    labels: dict[str, str]
    time: str | None = None
    place: str | None = None
    outcome: str | None = None
    answered: str | None = None


def read_table(path: str | Path) -> "pl.DataFrame":
    """Read one table by its ending; csv may be UTF-8 (with or without BOM) or GB18030.

    Raises:
        TableError: unknown ending, unreadable, or no rows.
    """
    import polars as pl

    file = Path(path)
    try:
        match file.suffix.lower():
            case ".csv" | ".tsv":
                separator = "\t" if file.suffix.lower() == ".tsv" else ","
                frame = pl.read_csv(read_text(file).encode(), infer_schema=False, separator=separator)
            case ".xlsx" | ".xls":
                frame = pl.read_excel(file, infer_schema_length=0)
            case ".jsonl" | ".ndjson":
                frame = pl.read_ndjson(file, infer_schema_length=None)
            case ".parquet":
                frame = pl.read_parquet(file)
            case other:
                raise TableError(f"{file.name}: ending {other!r} is not csv, tsv, xlsx, jsonl or parquet")
    except TableError:
        raise
    except Exception as error:  # polars and fastexcel raise many types
        raise TableError(
            f"{file.name}: cannot be read ({type(error).__name__}); check the file and its ending"
        ) from None
    if frame.is_empty():
        raise TableError(f"{file.name}: has no rows")
    return frame


def read_text(file: Path) -> str:
    """A text file in UTF-8 (with or without BOM) or GB18030.

    Raises:
        TableError: it is in neither. OSError: it cannot be opened.
    """
    return decoded(file.read_bytes(), file.name)


def decoded(raw: bytes, name: str) -> str:
    """Text out of bytes in UTF-8 (with or without BOM) or GB18030.

    Raises:
        TableError: they are in neither.
    """
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise TableError(f"{name} is neither UTF-8 nor GB18030; save it again as UTF-8")


def guess_columns(
    columns: Sequence[str], text: Sequence[str] = (), labels: Iterable[str] = (), id_column: str | None = None
) -> Columns:
    """Which columns to use: those asked for, else those with a known header.

    Args:
        text: text columns, joined in this order. labels: ``head=column`` or bare names.

    Raises:
        TableError: a named column is absent, or no text column can be guessed.
    """
    named = {head: column or head for head, _, column in (pair.partition("=") for pair in labels)}
    for column in (*text, *named.values(), *([id_column] if id_column else [])):
        if column not in columns:
            raise TableError(f"no column {column!r}; the table has {shown(columns)}")
    guessed = {role: next((c for c in names if c in columns), None) for role, names in _HEADERS.items()}
    texts = tuple(text) or tuple(c for c in (guessed["title"], guessed["body"]) if c)
    if not texts:
        raise TableError(f"no text column among {shown(columns)}; name one with --text, or give the table a header")
    if not named:
        heads = ("category", "department", "intent", "recurrence", "second", "co")
        named = {head: found for head in heads if (found := guessed[head]) and found not in texts}
    others = {role: guessed[role] for role in ("time", "place", "outcome", "answered")}
    return Columns(id_column or guessed["id"], texts, named, **others)


_TIME = re.compile(
    r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?"
    r"(?:[ T]*(\d{1,2})[:时点](?:(\d{1,2})分?(?:[::]?(\d{1,2})秒?)?)?(?:\.\d+)?\s*(Z|[+-]\d{2}:?\d{2})?)?"
)


def parse_time(value: object) -> datetime:
    """A time as tables write it: 2019-02-28 11:25:05, 2019/2/28, 2019年2月28日11时25分; UTC where it has no zone.

    Raises:
        TableError: it is none of these. The cell is not quoted: in a shifted row it may be the text.
    """
    match = _TIME.fullmatch(str(value).strip())
    try:
        if match:
            year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
            time = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            return time - _offset(match[7]) if match[7] else time
    except (ValueError, OverflowError):  # month 13
        pass
    raise TableError("the cell is not a time; write it as 2026-01-31 08:30")


def _offset(zone: str) -> timedelta:
    if zone == "Z":
        return timedelta()
    ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    return ahead if zone[0] == "+" else -ahead


def shown(columns: Sequence[str]) -> str:
    """Column names for a message; without a header, a long one is the first ticket's text."""
    return ", ".join(name if len(name) <= 12 else f"{name[:4]}…" for name in columns[:30])


def texts_of(frame: "pl.DataFrame", columns: Columns) -> list[str]:
    """The text of each row: title and body joined, null as empty.

    Raises:
        TableError: a text column holds lists or records.
    """
    for column in columns.text:
        if frame[column].dtype.is_nested():
            raise TableError(
                f"column {column!r} holds lists or records, not texts; join them, or name another with --text"
            )
    parts = [frame[column].cast(str, strict=False).fill_null("").to_list() for column in columns.text]
    return [join_fields(*row) for row in zip(*parts, strict=True)]


def ids_of(frame: "pl.DataFrame", columns: Columns) -> list[str]:
    """The id of each row, its 1-based row number where there is none."""
    ids = [None] * len(frame) if columns.id is None else frame[columns.id].to_list()
    return [str(row if own is None else own) for row, own in enumerate(ids, 1)]


def cells_of(frame: "pl.DataFrame", column: str) -> list[Any]:
    """Cells of a label column as strings, ``None`` where empty."""
    return [None if v is None or not str(v).strip() else str(v).strip() for v in frame[column].to_list()]
