"""``jiesu classify``: answers for one ticket or a table of them."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from jiesu_nlp.cli.common import JsonOption, ModelOption, TextOption, app, err, errors, out, plain
from jiesu_nlp.cli.past import open_history


@app.command()
def classify(
    text: Annotated[str | None, typer.Argument(help="诉求正文;'-' 读标准输入,每行一件")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="csv/xlsx/jsonl/parquet 表")] = None,
    column: TextOption = None,
    model: ModelOption = None,
    db: Annotated[str | None, typer.Option("--db", help="历史库;给出则查同一事项的往期工单")] = None,
    at: Annotated[str | None, typer.Option(help="来件时间,如 2026-01-31 08:30;表中有时间列则用列")] = None,
    place: Annotated[str | None, typer.Option(help="地点;表中有地点列则用列")] = None,
    as_json: JsonOption = False,
) -> None:
    """给一件或多件诉求分类。

    例:jiesu classify "楼下饭馆油烟太大" · jiesu classify -f 工单.xlsx --db 历史.db --json
    """
    from jiesu_nlp.predict import Classifier, Rejected

    with errors():
        ids, texts, times, places, wrong = _inputs(text, file, column or [], at, place, db is not None)
        classifier = Classifier.load(model)
        single = file is None and text != "-"
        options: dict[str, Any] = {"history": open_history(db) if db else None}
        if single:
            answers = [classifier.classify(texts[0], at=times[0], place=places[0], **options)]
        else:
            answers = _classify_all(classifier, texts, times, places, options, as_json)
            answers = [wrong.get(row, answer) for row, answer in enumerate(answers)]
        bad = 0
        for key, answer in zip(ids, answers, strict=True):
            bad += isinstance(answer, Rejected)
            if as_json:
                typer.echo(
                    json.dumps(answer.to_dict() if single else {"id": key} | answer.to_dict(), ensure_ascii=False)
                )
        if not as_json:
            _show(answers[0]) if single else _show_all(ids, answers)
        if bad:
            err.print(f"{bad} 行不能分类,见各行的 error", style="yellow")
            raise typer.Exit(1)


def _inputs(
    text: str | None, file: Path | None, columns: list[str], at: str | None, place: str | None, timed: bool
) -> tuple[list[str], list[str], list[Any], list[Any], dict[int, Any]]:
    """Ids, texts, times and places of what is to be classified, and rows that cannot be: their time is none."""
    from jiesu_nlp.errors import TableError
    from jiesu_nlp.predict import Rejected
    from jiesu_nlp.tables import cells_of, decoded, guess_columns, ids_of, parse_time, read_table, texts_of

    if (text is None) == (file is None):
        raise typer.BadParameter("给一段正文、'-' 或 --file 表,三者取一")
    time = parse_time(at) if at else None
    if file is None:
        lines = [str(text)]
        if text == "-":
            content = decoded(sys.stdin.buffer.read(), "stdin")
            lines = content.removesuffix("\n").split("\n") if content else []
        return [str(i) for i in range(1, len(lines) + 1)], lines, [time] * len(lines), [place] * len(lines), {}
    frame = read_table(file)
    chosen = guess_columns(frame.columns, columns)
    times = [time] * len(frame)
    wrong: dict[int, Any] = {}
    for row, cell in enumerate(cells_of(frame, chosen.time) if chosen.time and timed else []):
        try:  # only a history asks when a ticket came in
            times[row] = parse_time(cell) if cell else time
        except TableError as error:
            wrong[row] = Rejected(row, "TableError", str(error))
    places = [v or place for v in cells_of(frame, chosen.place)] if chosen.place else [place] * len(frame)
    return ids_of(frame, chosen), texts_of(frame, chosen), times, places, wrong


def _classify_all(
    classifier: Any, texts: list[str], times: list[Any], places: list[Any], options: dict[str, Any], quiet: bool
) -> list[Any]:
    from rich.progress import track

    from jiesu_nlp.predict import Rejected

    answers: list[Any] = []
    many = len(texts) >= (200 if options["history"] else 2000)
    for start in track(range(0, len(texts), 256), "分类", console=err, transient=True, disable=quiet or not many):
        part = slice(start, start + 256)
        batch = classifier.classify_batch(texts[part], at=times[part], place=places[part], **options)
        answers += [replace(a, row=a.row + start) if isinstance(a, Rejected) else a for a in batch]
    return answers


def _show(answer: Any) -> None:
    heads = (("类别", answer.categories), ("部门", answer.departments), ("类型", answer.intents))
    rows = [(name, "   ".join(f"{s.name} {s.probability:.2f}" for s in ranked)) for name, ranked in heads]
    if answer.assisting:
        rows.append(("协办", "、".join(s.name for s in answer.assisting)))
    handling, recurrence = answer.handling, answer.recurrence
    rows.append(("派单", f"{'转 ' + handling.line if handling.line else handling.name}({handling.basis})"))
    rows.append(("未诉先办", f"{recurrence.score:.2f}(明知可办 {recurrence.score_known:.2f})"))
    rows.append(("依据", "、".join(e.text or f"往期工单 {e.ticket}" for e in recurrence.evidence) or "无"))
    if not recurrence.is_prior:
        back = ",曾答复而再来" if recurrence.came_back else ""
        again = f";30 天内再来 {recurrence.again:.2f}" if recurrence.again is not None else ""
        counts = f"一年内同一事项 {recurrence.count} 件(月次 {recurrence.month_count},年次 {recurrence.year_count})"
        rows.append(("历史", counts + back + again))
    words = [f"{w.word}{w.weight:+.2f}" for w in answer.explanation if w.head == "department"]
    rows += [("词", " ".join(words)), ("复核", ";".join(answer.review_reasons) or "不需要")]
    table = Table(show_header=False, box=None)
    for row in rows:
        table.add_row(*plain(row))
    out.print(table)


def _show_all(ids: list[str], answers: list[Any]) -> None:
    from jiesu_nlp.predict import Rejected

    table = Table(Column("编号", no_wrap=True), "类别", "部门", "类型", "派单", "未诉先办", "复核")
    for key, answer in zip(ids, answers, strict=True):
        if isinstance(answer, Rejected):
            table.add_row(*plain((key, answer.error, answer.message)), style="red")
        else:
            top = (f"{s.name} {s.probability:.2f}" for s in (answer.category, answer.department, answer.intent))
            review = "是" if answer.needs_review else ""
            table.add_row(*plain((key, *top, answer.handling.name, f"{answer.recurrence.score:.2f}", review)))
    out.print(table)
