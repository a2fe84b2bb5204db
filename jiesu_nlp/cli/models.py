"""``jiesu train``, ``evaluate`` and ``info``: making and measuring models."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from jiesu_nlp.cli.common import (
    JOBS,
    JsonOption,
    LabelOption,
    ModelOption,
    TextOption,
    app,
    err,
    errors,
    figures,
    out,
    plain,
)


class ModelKind(StrEnum):
    """Kinds of model that can be trained."""

    tfidf = "tfidf"
    bert = "bert"
    blend = "blend"


class Loss(StrEnum):
    """Losses that an encoder can learn by."""

    cross_entropy = "cross_entropy"
    focal = "focal"


@app.command()
def train(
    tables: Annotated[list[Path], typer.Argument(help="一个或多个有标签的表")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="模型文件夹")],
    kind: Annotated[ModelKind, typer.Option("--model", help="tfidf;bert:编码器;blend:两者合一,最准")] = ModelKind.tfidf,
    base: Annotated[str, typer.Option(help="编码器:本地文件夹(如 jiesu pretrain 所得)或 Hugging Face 名称")] = "",
    column: TextOption = None,
    label: LabelOption = None,
    taxonomy: Annotated[Path | None, typer.Option(help="自己的标签体系文件夹")] = None,
    seed: Annotated[int, typer.Option(help="随机种子;tfidf 同种子同数据,模型逐字节相同")] = 0,
    jobs: Annotated[int, typer.Option(help="进程数(tfidf)")] = JOBS,
    epochs: Annotated[int, typer.Option(help="编码器最多读几遍", min=1)] = 6,
    batch: Annotated[int, typer.Option(help="编码器每步几件", min=1)] = 32,
    rate: Annotated[float, typer.Option(help="编码器学习率;0 为按大小自定")] = 0.0,
    length: Annotated[int, typer.Option(help="编码器一次读几个字", min=16, max=512)] = 256,
    windows: Annotated[int, typer.Option(help="长文最多分几段读;1 为只读头尾", min=1)] = 1,
    loss: Annotated[Loss, typer.Option(help="编码器的损失函数")] = Loss.cross_entropy,
    class_weights: Annotated[bool, typer.Option("--class-weights", help="编码器:少见的类多算一些")] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep-encoder", help="编码器:微调后的编码器另存于此,可作别的标签的 --base")
    ] = None,
    checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="编码器:省内存,慢一些")] = False,
    teacher: Annotated[Path | None, typer.Option(help="蒸馏:教师模型的文件夹")] = None,
    unlabelled: Annotated[list[Path] | None, typer.Option(help="蒸馏:无标签的表,由教师来标;可多次")] = None,
    as_json: JsonOption = False,
) -> None:
    """训练一个模型:默认 TF-IDF;也可微调中文 BERT,或两者合一。编码器的训练中断后,再运行同一命令即可继续。

    例:jiesu train 工单.xlsx -o 模型 · jiesu train t.jsonl --text tokens --label label -o 模型
    · jiesu train 工单.xlsx --model blend --base 编码器 -o 模型
    """
    from jiesu_nlp.errors import TrainingDataError
    from jiesu_nlp.models.fit_bert import FineTuneConfig
    from jiesu_nlp.models.fit_tfidf import FitConfig
    from jiesu_nlp.models.load import load_model
    from jiesu_nlp.models.wordpiece import Reading
    from jiesu_nlp.taxonomy import Taxonomy
    from jiesu_nlp.train import settings
    from jiesu_nlp.train import train as run

    with errors(), err.status("读取") as status:
        if kind != ModelKind.tfidf and not base:
            raise TrainingDataError("an encoder needs a base: --base FOLDER_OR_HUB_NAME")
        report = run(
            list(tables),
            folder,
            text=column or [],
            labels=label or [],
            taxonomy=Taxonomy.load(taxonomy) if taxonomy else None,
            name=folder.name,
            kind=kind.value,
            config=FitConfig(seed=seed),
            bert=FineTuneConfig(
                base=base,
                reading=Reading(length=length, windows=windows),
                epochs=epochs,
                batch=batch,
                rate=rate,
                loss=loss.value,
                class_weights=class_weights,
                gradient_checkpointing=checkpointing,
                keep=str(keep or ""),
                seed=seed,
            ),
            teacher=load_model(teacher) if teacher else None,
            unlabelled=unlabelled or [],
            jobs=jobs,
            progress=status.update,
        )
    if as_json:
        typer.echo(json.dumps(settings(report), ensure_ascii=False))
        return
    for warning in report.warnings:
        err.print(f"注意:{warning}", style="yellow", markup=False)
    judged = int(report.judged.sum())
    how = "组外交叉验证" if judged == report.rows else f"由未参与训练的 {judged} 行得出"
    out.print(f"{report.rows} 行,近重复合为 {report.groups} 组;下列数字{how}")
    figures(report.metrics)
    for name, values in report.how.get("parts", {}).items():
        out.print(f"只用 {name}:")
        figures(values)
    if "int8" in report.how:
        cost = Table("head", "torch F1", "int8 F1", "F1 之差", "概率最大之差", title="int8 与 torch 相比")
        for head, values in report.how["int8"].items():
            names = ("macro_f1_torch", "macro_f1_int8", "macro_f1_difference", "max_difference")
            cost.add_row(head, *(f"{values.get(name, float('nan')):.4f}" for name in names))
        out.print(cost)
    out.print(f"模型写入 {folder}")


@app.command()
def pretrain(
    corpus: Annotated[
        list[str], typer.Argument(help="语料:每行一篇的 .txt,或表(csv、xlsx、jsonl、parquet);可写 文件*4 表示读四遍")
    ],
    folder: Annotated[Path, typer.Option("--out", "-o", help="编码器文件夹")],
    base: Annotated[
        str | None, typer.Option(help="从哪个编码器继续:本地文件夹或 Hugging Face 名称;不给则从零开始")
    ] = None,
    column: TextOption = None,
    layers: Annotated[int, typer.Option(help="层数", min=1)] = 4,
    width: Annotated[int, typer.Option(help="宽度", min=16)] = 320,
    heads: Annotated[int, typer.Option(help="注意力头数,须整除宽度", min=1)] = 5,
    vocabulary: Annotated[int, typer.Option(help="词表至多几项", min=100)] = 8000,
    length: Annotated[int, typer.Option(help="每段几个字", min=16, max=512)] = 256,
    batch: Annotated[int, typer.Option(help="每步几段", min=1)] = 32,
    epochs: Annotated[float, typer.Option(help="读几遍", min=0.01)] = 1.0,
    steps: Annotated[int, typer.Option(help="走几步;给了就不看 --epochs", min=0)] = 0,
    rate: Annotated[float, typer.Option(help="学习率;从已有编码器继续时取 1e-4 左右")] = 1.5e-3,
    seed: Annotated[int, typer.Option(help="随机种子")] = 0,
    as_json: JsonOption = False,
) -> None:
    """用自己的无标签工单预训练一个小型中文编码器(整词掩码)。有 GPU 则用 GPU。中断后再运行同一命令即可继续。

    例:jiesu pretrain '工单.parquet*4' 法规.txt -o 编码器
    · jiesu pretrain 工单.csv --base hfl/chinese-macbert-base --rate 5e-5 -o 编码器
    """
    from jiesu_nlp.corpus import read_source
    from jiesu_nlp.pretrain import PretrainConfig
    from jiesu_nlp.pretrain import pretrain as run

    with errors(), err.status("读取") as status:
        config = PretrainConfig(
            layers=layers, width=width, heads=heads, vocabulary=vocabulary, length=length, batch=batch,
            epochs=epochs, steps=steps, rate=rate, seed=seed,
        )  # fmt: skip
        report = run([read_source(name, column or []) for name in corpus], folder, base, config, status.update)
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    last = {name: value for entry in report["losses"] for name, value in entry.items()}
    table = Table("语料", "篇", "段", "遍")
    for source in report["sources"]:
        table.add_row(*plain((source["name"], source["texts"], source["blocks"], source["weight"])))
    out.print(table)
    out.print(
        f"{report['steps']} 步,掩码词损失 {last['loss']}(训练)、{last['eval_loss']}(留出) → {folder}", markup=False
    )


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
    from jiesu_nlp.models.load import load_model
    from jiesu_nlp.report import html_report

    with errors(), err.status("评估"):
        loaded = load_model(model)
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
    from jiesu_nlp import native
    from jiesu_nlp.models.load import load_model

    with errors():
        loaded = load_model(model)
    shown = {k: v for k, v in loaded.meta.items() if k != "taxonomy"}
    shown["taxonomy"] = {"name": loaded.taxonomy.name, "version": loaded.taxonomy.version, "hash": loaded.taxonomy.hash}
    shown["compiled"] = bool(native.loaded())
    if as_json:
        typer.echo(json.dumps(shown, ensure_ascii=False))
        return
    out.print(f"{shown['name']} {shown['version']},体系 {loaded.taxonomy.name} {loaded.taxonomy.version}")
    out.print(f"数据 {shown['data']['rows']} 行,指纹 {shown['data']['fingerprint']}")
    out.print("编译部分:有" if shown["compiled"] else "编译部分:无(安装时没有 C 编译器),答案相同,速度约为七分之一")
    figures(shown["metrics"])
