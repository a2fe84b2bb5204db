"""``jiesu history``, ``hotspots`` and ``forecast``: acting before the next complaint."""

import json
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Column, Table

from jiesu_nlp.cli.common import JsonOption, ModelOption, TextOption, app, err, errors, named, out, plain

if TYPE_CHECKING:
    from jiesu_nlp.history import History
    from jiesu_nlp.history_tables import Ticket

history_app = typer.Typer(no_args_is_help=True, help="历史库:往期工单,只增不改。")
app.add_typer(history_app, name="history")

_TABLES = {".csv", ".tsv", ".xlsx", ".xls", ".jsonl", ".ndjson", ".parquet"}
_CHUNK = 1000

SourceArgument = Annotated[str, typer.Argument(help="历史库(文件或 postgresql+psycopg://…),或一张有时间列的表")]
SaveOption = Annotated[Path | None, typer.Option("--out", "-o", help="另存为 csv")]


def open_history(where: str) -> "History":
    """A history that must be there."""
    from jiesu_nlp.history import History

    return History(where, create=False)


@history_app.command("add")
def add(
    table: Annotated[Path, typer.Argument(help="csv/xlsx/jsonl/parquet 表,要有时间列")],
    db: Annotated[str, typer.Option("--db", help="历史库文件,没有则新建;或 postgresql+psycopg://…")],
    column: TextOption = None,
    model: ModelOption = None,
    classify: Annotated[bool, typer.Option(help="表中没有类别、部门的行,由模型补上")] = True,
    as_json: JsonOption = False,
) -> None:
    """把一张表的工单存入历史库;已有的编号不重存,只补新的答复,可以重复执行。

    例:jiesu history add 工单.xlsx --db 历史.db
    """
    from jiesu_nlp.history import History

    with errors(), History(db) as history:
        counts = _add(history, table, column or [], model if classify else None, classify, as_json)
        counts["total"] = len(history)
    if as_json:
        typer.echo(json.dumps(counts))
    else:
        added = f"新增 {counts['new']} 件,已有 {counts['known']} 件,不能用 {counts['rejected']} 行"
        out.print(f"{added};库中共 {counts['total']} 件")
    if counts["rejected"]:
        raise typer.Exit(1)


def _add(
    history: "History", table: Path, columns: list[str], model: Path | None, classify: bool, quiet: bool
) -> dict[str, int]:
    from jiesu_nlp.errors import TableError
    from jiesu_nlp.predict import Classifier
    from jiesu_nlp.tables import guess_columns, read_table, shown

    frame = read_table(table)
    chosen = guess_columns(frame.columns, columns)
    if chosen.time is None:
        raise TableError(f"{table.name}: no time column among {shown(frame.columns)}; name one 受理时间 or time")
    classifier = Classifier.load(model) if classify else None
    counts = {"new": 0, "known": 0, "rejected": 0}
    with Progress(console=err, transient=True, disable=quiet or len(frame) < _CHUNK) as progress:
        task = progress.add_task("存入", total=len(frame))
        for start in range(0, len(frame), _CHUNK):
            part = frame.slice(start, _CHUNK)
            tickets = list(_tickets(part, chosen, start, classifier))
            new = history.append(tickets)
            counts["new"] += new
            counts["known"] += len(tickets) - new
            counts["rejected"] += len(part) - len(tickets)
            progress.advance(task, len(part))
    return counts


def _tickets(frame: Any, chosen: Any, start: int, classifier: Any) -> "Iterator[Ticket]":
    """The usable rows of a table; the others are named on standard error with the reason."""
    from jiesu_nlp.errors import JiesuError
    from jiesu_nlp.history import Ticket
    from jiesu_nlp.predict import Rejected
    from jiesu_nlp.tables import cells_of, parse_time, texts_of
    from jiesu_nlp.taxonomy import Taxonomy
    from jiesu_nlp.text import check_text

    known = classifier.taxonomy if classifier else Taxonomy.load()
    texts = texts_of(frame, chosen)
    ids = cells_of(frame, chosen.id) if chosen.id else [None] * len(frame)
    columns = {role: getattr(chosen, role) for role in ("time", "place", "outcome", "answered")}
    columns |= {head: chosen.labels.get(head) for head in ("category", "department")}
    cells = {role: cells_of(frame, name) if name else [None] * len(frame) for role, name in columns.items()}
    codes = {
        head: [known.find(head, cell) if cell else None for cell in cells[head]] for head in ("category", "department")
    }
    lacking = [i for i in range(len(texts)) if classifier and not (codes["category"][i] and codes["department"][i])]
    batch = classifier.classify_batch([texts[i] for i in lacking], explain=False) if lacking else []
    answers = dict(zip(lacking, batch, strict=True))
    for i in range(len(texts)):
        answer, row = answers.get(i), {role: values[i] for role, values in cells.items()}
        try:
            check_text(texts[i])
            labels = {head: of[i] for head, of in codes.items()}
            for head, code in labels.items():
                if row[head] and not code and not classifier:
                    known.resolve(head, row[head])  # which says what is wrong with it
            if answer is not None and not isinstance(answer, Rejected):
                labels = {head: code or getattr(answer, head).code for head, code in labels.items()}
            answered = parse_time(row["answered"]) if row["answered"] else None
            # Rows of a table without ids get one from time and text, so that the next table's are others.
            key = sha256(f"{row['time']}\n{texts[i]}".encode("utf-8", "replace")).hexdigest()[:16]
            yield Ticket(
                ids[i] or key,
                texts[i],
                parse_time(row["time"]),
                row["place"],
                **labels,
                outcome=row["outcome"] or ("answered" if answered else None),
                answered=answered,
            )
        except JiesuError as error:
            err.print(f"第 {start + i + 1} 行 {ids[i] or ''}:{error}", style="yellow", markup=False, highlight=False)


def _source(where: str, columns: list[str]) -> "History":
    """A history that is there, or one in memory made of a table."""
    from jiesu_nlp.history import History

    if "://" in where or Path(where).suffix.lower() not in _TABLES:
        return open_history(where)
    history = History("sqlite://")
    _add(history, Path(where), columns, None, True, False)
    return history


@app.command()
def hotspots(
    source: SourceArgument,
    days: Annotated[int | None, typer.Option(min=1, help="只看最近这么多天")] = None,
    half_life: Annotated[float, typer.Option(help="热度半衰期(天)")] = 30.0,
    smallest: Annotated[int, typer.Option(help="一组至少几件")] = 2,
    top: Annotated[int, typer.Option(help="显示前几组")] = 20,
    column: TextOption = None,
    save: SaveOption = None,
    as_json: JsonOption = False,
) -> None:
    """从一件诉求到一类诉求:同一地点同一事项的工单归组,按热度排序。

    例:jiesu hotspots 历史.db --days 90 · jiesu hotspots 工单.xlsx -o 热点.csv
    """
    from jiesu_nlp.hotspots import hotspots as run

    with errors():
        history = _source(source, column or [])
        last = history.last_time()
        since = last - timedelta(days=days) if days and last else None
        with err.status("归组"):
            frame = run(history, since, half_life=half_life, smallest=smallest)
        if save:
            import polars as pl

            frame.with_columns(pl.col("ids").list.join(" ")).write_csv(save)
    if as_json:
        typer.echo(json.dumps(frame.head(top).to_dicts(), ensure_ascii=False))
        return
    table = Table("序", "热度", "件", Column("事项", overflow="fold"), "类别", "起", "止", "代表工单")
    for row in frame.head(top).iter_rows(named=True):
        about = (row["title"], named("category", row["category"]), row["first"], row["last"], row["representative"])
        table.add_row(*plain((row["rank"], f"{row['heat']:.2f}", row["tickets"], *about)))
    out.print(table)
    out.print(f"共 {len(frame)} 组;热度 = Σ 0.5^(距窗口末日天数/{half_life:g}) × √(不同日数/件数)")


@app.command()
def forecast(
    source: SourceArgument,
    at: Annotated[str | None, typer.Option(help="预测哪个月,如 2026-02-01;默认为最后一件之后第十天所在的月份")] = None,
    top: Annotated[int, typer.Option(help="显示前几对")] = 20,
    column: TextOption = None,
    save: SaveOption = None,
    as_json: JsonOption = False,
) -> None:
    """下个月哪里、哪一类可能有诉求,供街乡先办。

    例:jiesu forecast 历史.db --top 30 -o 预测.csv
    """
    from jiesu_nlp.forecast import forecast as run
    from jiesu_nlp.tables import parse_time

    with errors():
        history = _source(source, column or [])
        with err.status("预测"):
            result = run(history, parse_time(at) if at else None)
        if save:
            result.table.write_csv(save)
    if as_json:
        rows = {
            "month": result.month,
            "table": result.table.head(top).to_dicts(),
            "backtest": result.backtest.to_dicts(),
        }
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("地点", "类别", "概率", "上月", "去年同月", title=f"{result.month} 预测")
    for row in result.table.head(top).iter_rows():
        table.add_row(*plain((row[0], named("category", row[1]), f"{row[2]:.2f}", *row[3:])))
    out.print(table)
    past = Table("月", "对数", "有诉求", "AUROC", "去年同月", "命中率", "去年同月", title="回测:只用当月之前的工单")
    for row in result.backtest.iter_rows():
        past.add_row(row[0], str(row[1]), *(f"{v:.3f}" for v in row[2:]))
    out.print(past)
