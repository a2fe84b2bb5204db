"""``jiesu train``, ``evaluate`` and ``info``: making and measuring models."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from jiesu_nlp.cli.common import JOBS, JsonOption, LabelOption, ModelOption, TextOption, app, err, errors, figures, out


@app.command()
def train(
    tables: Annotated[list[Path], typer.Argument(help="一个或多个有标签的表")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="模型文件夹")],
    column: TextOption = None,
    label: LabelOption = None,
    taxonomy: Annotated[Path | None, typer.Option(help="自己的标签体系文件夹")] = None,
    seed: Annotated[int, typer.Option(help="随机种子;同种子同数据,模型逐字节相同")] = 0,
    jobs: Annotated[int, typer.Option(help="进程数")] = JOBS,
    as_json: JsonOption = False,
) -> None:
    """训练一个 TF-IDF 模型。

    例:jiesu train 工单.xlsx -o 模型 · jiesu train t.jsonl --text tokens --label label -o 模型
    """
    from jiesu_nlp.models.fit_tfidf import FitConfig
    from jiesu_nlp.taxonomy import Taxonomy
    from jiesu_nlp.train import settings
    from jiesu_nlp.train import train as run

    with errors(), err.status("读取") as status:
        report = run(
            list(tables),
            folder,
            text=column or [],
            labels=label or [],
            taxonomy=Taxonomy.load(taxonomy) if taxonomy else None,
            name=folder.name,
            config=FitConfig(seed=seed),
            jobs=jobs,
            progress=status.update,
        )
    if as_json:
        typer.echo(json.dumps(settings(report), ensure_ascii=False))
        return
    for warning in report.warnings:
        err.print(f"注意:{warning}", style="yellow", markup=False)
    out.print(f"{report.rows} 行,近重复合为 {report.groups} 组;下列数字为组外交叉验证")
    figures(report.metrics)
    out.print(f"模型写入 {folder}")


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

    with errors(), err.status("评估"):
        loaded = TfidfModel.load(str(model or default_model_folder()))
        report = run(loaded, table, text=column or [], labels=label or [])
        if html:
            html.write_text(html_report(report, f"{loaded.meta['name']} · {table.name}"), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    figures({head: result["figures"] for head, result in report["heads"].items()})
    for head, result in report["heads"].items():
        detail = Table("标签", "行", "P", "R", "F1", title=head)
        for c in result["classes"]:
            detail.add_row(c["code"], str(c["rows"]), *(f"{c[k]:.3f}" for k in ("precision", "recall", "f1")))
        out.print(detail)
        for c in result["confusions"][:8]:
            out.print(f"  {c['label']} → {c['predicted']}: {c['rows']}  ({' '.join(c['ids'])})", highlight=False)


@app.command()
def info(model: ModelOption = None, as_json: JsonOption = False) -> None:
    """显示模型的名称、版本、数据指纹与指标。

    例:jiesu info --model 模型
    """
    from jiesu_nlp.models.tfidf import TfidfModel
    from jiesu_nlp.predict import default_model_folder

    with errors():
        loaded = TfidfModel.load(str(model or default_model_folder()))
    shown = {k: v for k, v in loaded.meta.items() if k != "taxonomy"}
    shown["taxonomy"] = {"name": loaded.taxonomy.name, "version": loaded.taxonomy.version, "hash": loaded.taxonomy.hash}
    shown["vocabulary"] = {"words": len(loaded.words), "chars": len(loaded.chars)}
    if as_json:
        typer.echo(json.dumps(shown, ensure_ascii=False))
        return
    out.print(f"{shown['name']} {shown['version']},体系 {loaded.taxonomy.name} {loaded.taxonomy.version}")
    out.print(f"数据 {shown['data']['rows']} 行,指纹 {shown['data']['fingerprint']};词表 {shown['vocabulary']}")
    figures(shown["metrics"])
