"""The ``jiesu`` command: each subcommand turns arguments into one call below."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from jiesu_nlp.errors import JiesuError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="读市民诉求,给出类别、部门、派单方式与未诉先办。")
_out = Console()
_err = Console(stderr=True)

ModelOption = Annotated[Path | None, typer.Option("--model", help="模型文件夹;不给则用自带模型")]
JsonOption = Annotated[bool, typer.Option("--json", help="输出 JSON,供程序使用")]
TextOption = Annotated[list[str] | None, typer.Option("--text", help="正文列名,可多次;按顺序相连")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="标签列:head=列名 或 列名,可多次")]


@contextmanager
def _errors() -> Iterator[None]:
    """A library error becomes one line and exit code 2; Ctrl-C becomes 130."""
    try:
        yield
    except JiesuError as error:
        _err.print(f"错误:{error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _err.print("已中断")
        raise typer.Exit(130) from None


@app.command()
def classify(
    text: Annotated[str | None, typer.Argument(help="诉求正文;'-' 读标准输入,每行一件")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="csv/xlsx/jsonl/parquet 表")] = None,
    column: TextOption = None,
    model: ModelOption = None,
    as_json: JsonOption = False,
) -> None:
    """给一件或多件诉求分类。

    例:jiesu classify "楼下饭馆油烟太大" · jiesu classify -f 工单.xlsx --json
    """
    from jiesu_nlp.predict import Classifier, Rejected

    with _errors():
        ids, texts = _inputs(text, file, column or [])
        classifier = Classifier.load(model)
        single = file is None and text != "-"
        answers = [classifier.classify(texts[0])] if single else _classify_all(classifier, texts, as_json)
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
            _err.print(f"{bad} 行不能分类,见各行的 error", style="yellow")
            raise typer.Exit(1)


def _inputs(text: str | None, file: Path | None, columns: list[str]) -> tuple[list[str], list[str]]:
    from jiesu_nlp.tables import guess_columns, ids_of, read_table, texts_of

    if (text is None) == (file is None):
        raise typer.BadParameter("给一段正文、'-' 或 --file 表,三者取一")
    if file is not None:
        frame = read_table(file)
        chosen = guess_columns(frame.columns, columns)
        return ids_of(frame, chosen), texts_of(frame, chosen)
    lines = [line.rstrip("\n") for line in sys.stdin] if text == "-" else [str(text)]
    return [str(i) for i in range(1, len(lines) + 1)], lines


def _classify_all(classifier: Any, texts: list[str], quiet: bool) -> list[Any]:
    from rich.progress import track

    chunks = range(0, len(texts), 256)
    shown = track(chunks, "分类", console=_err, transient=True, disable=quiet or len(texts) < 2000)
    return [answer for start in shown for answer in _chunk(classifier, texts, start)]


def _chunk(classifier: Any, texts: list[str], start: int) -> list[Any]:
    from dataclasses import replace

    from jiesu_nlp.predict import Rejected

    answers = classifier.classify_batch(texts[start : start + 256])
    return [replace(a, row=a.row + start) if isinstance(a, Rejected) else a for a in answers]


def _show(answer: Any) -> None:
    table = Table(show_header=False, box=None)
    for name, ranked in (("类别", answer.categories), ("部门", answer.departments), ("类型", answer.intents)):
        table.add_row(name, "   ".join(f"{s.name} {s.probability:.2f}" for s in ranked))
    if answer.assisting:
        table.add_row("协办", "、".join(s.name for s in answer.assisting))
    handling = answer.handling
    table.add_row("派单", f"{handling.name}{' ' + handling.line if handling.line else ''}({handling.basis})")
    recurrence = answer.recurrence
    table.add_row("未诉先办", f"{recurrence.score:.2f}(明知可办 {recurrence.score_known:.2f})")
    table.add_row("依据", "、".join(c.text for c in recurrence.evidence) or "无")
    words = [f"{w.word}{w.weight:+.2f}" for w in answer.explanation if w.head == "department"]
    table.add_row("词", " ".join(words))
    table.add_row("复核", ";".join(answer.review_reasons) or "不需要")
    _out.print(table)


def _show_all(ids: list[str], answers: list[Any]) -> None:
    from jiesu_nlp.predict import Rejected

    table = Table(Column("编号", no_wrap=True), "类别", "部门", "类型", "派单", "未诉先办", "复核")
    for key, answer in zip(ids, answers, strict=True):
        if isinstance(answer, Rejected):
            table.add_row(key, f"[red]{answer.error}", answer.message)
        else:
            top = (f"{s.name} {s.probability:.2f}" for s in (answer.category, answer.department, answer.intent))
            review = "是" if answer.needs_review else ""
            table.add_row(key, *top, answer.handling.name, f"{answer.recurrence.score:.2f}", review)
    _out.print(table)


@app.command()
def train(
    tables: Annotated[list[Path], typer.Argument(help="一个或多个有标签的表")],
    out: Annotated[Path, typer.Option("--out", "-o", help="模型文件夹")],
    column: TextOption = None,
    label: LabelOption = None,
    taxonomy: Annotated[Path | None, typer.Option(help="自己的标签体系文件夹")] = None,
    seed: Annotated[int, typer.Option(help="随机种子;同种子同数据,模型逐字节相同")] = 0,
    jobs: Annotated[int, typer.Option(help="进程数")] = os.cpu_count() or 1,
    as_json: JsonOption = False,
) -> None:
    """训练一个 TF-IDF 模型。

    例:jiesu train 工单.xlsx -o 模型 · jiesu train t.jsonl --text tokens --label label -o 模型
    """
    from jiesu_nlp.models.fit_tfidf import FitConfig
    from jiesu_nlp.taxonomy import Taxonomy
    from jiesu_nlp.train import settings
    from jiesu_nlp.train import train as run

    with _errors(), _err.status("读取") as status:
        report = run(
            list(tables),
            out,
            text=column or [],
            labels=label or [],
            taxonomy=Taxonomy.load(taxonomy) if taxonomy else None,
            name=out.name,
            config=FitConfig(seed=seed),
            jobs=jobs,
            progress=status.update,
        )
    if as_json:
        typer.echo(json.dumps(settings(report), ensure_ascii=False))
        return
    for warning in report.warnings:
        _err.print(f"注意:{warning}", style="yellow", markup=False)
    _out.print(f"{report.rows} 行,近重复合为 {report.groups} 组;下列数字为组外交叉验证")
    _figures(report.metrics)
    _out.print(f"模型写入 {out}")


def _figures(heads: Any) -> None:
    names = ("macro_f1", "top1", "top3", "ece", "accuracy_at_70", "rows")
    table = Table("head", *names)
    for head, figures in heads.items():
        table.add_row(head, *(f"{figures[n]:.4f}" if n != "rows" else f"{figures[n]:.0f}" for n in names))
    _out.print(table)


@app.command()
def evaluate(
    table: Annotated[Path, typer.Argument(help="有标签的表")],
    model: ModelOption = None,
    column: TextOption = None,
    label: LabelOption = None,
    html: Annotated[Path | None, typer.Option(help="另写一份 HTML 报告")] = None,
    as_json: JsonOption = False,
) -> None:
    """用有标签的表评估模型。

    例:jiesu evaluate 测试.csv --model 模型 --html 报告.html
    """
    from jiesu_nlp.evaluate import evaluate as run
    from jiesu_nlp.models.tfidf import TfidfModel
    from jiesu_nlp.predict import default_model_folder
    from jiesu_nlp.report import html_report

    with _errors(), _err.status("评估"):
        loaded = TfidfModel.load(str(model or default_model_folder()))
        report = run(loaded, table, text=column or [], labels=label or [])
        if html:
            html.write_text(html_report(report, f"{loaded.meta['name']} · {table.name}"), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    _figures({head: result["figures"] for head, result in report["heads"].items()})
    for head, result in report["heads"].items():
        detail = Table("标签", "行", "P", "R", "F1", title=head)
        for c in result["classes"]:
            detail.add_row(c["code"], str(c["rows"]), *(f"{c[k]:.3f}" for k in ("precision", "recall", "f1")))
        _out.print(detail)
        for c in result["confusions"][:8]:
            _out.print(f"  {c['label']} → {c['predicted']}: {c['rows']}  ({' '.join(c['ids'])})", highlight=False)


@app.command()
def info(model: ModelOption = None, as_json: JsonOption = False) -> None:
    """显示模型的名称、版本、数据指纹与指标。

    例:jiesu info --model 模型
    """
    from jiesu_nlp.models.tfidf import TfidfModel
    from jiesu_nlp.predict import default_model_folder

    with _errors():
        loaded = TfidfModel.load(str(model or default_model_folder()))
    shown = {k: v for k, v in loaded.meta.items() if k != "taxonomy"}
    shown["taxonomy"] = {"name": loaded.taxonomy.name, "version": loaded.taxonomy.version, "hash": loaded.taxonomy.hash}
    shown["vocabulary"] = {"words": len(loaded.words), "chars": len(loaded.chars)}
    if as_json:
        typer.echo(json.dumps(shown, ensure_ascii=False))
        return
    _out.print(f"{shown['name']} {shown['version']},体系 {loaded.taxonomy.name} {loaded.taxonomy.version}")
    _out.print(f"数据 {shown['data']['rows']} 行,指纹 {shown['data']['fingerprint']};词表 {shown['vocabulary']}")
    _figures(shown["metrics"])
