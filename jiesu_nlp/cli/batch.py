"""``jiesu relabel``: millions of tickets, resumed where it was killed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jiesu_nlp.cli.common import JOBS, JsonOption, ModelOption, TextOption, app, err, errors, named, out, plain

if TYPE_CHECKING:
    from jiesu_nlp.relabel import Summary

_SHOWN = 8


@app.command()
def relabel(
    inputs: Annotated[list[str], typer.Argument(help="表、文件夹或通配符,可多个;最后一个参数之前的都是输入")],
    target: Annotated[Path, typer.Argument(help="输出表:csv、tsv、xlsx、jsonl 或 parquet")],
    column: TextOption = None,
    old: Annotated[
        list[str] | None, typer.Option("--old", help="旧标签列:head=列名,如 department=承办单位;用于对照")
    ] = None,
    model: ModelOption = None,
    jobs: Annotated[int, typer.Option(help="进程数")] = JOBS,
    engine: Annotated[str, typer.Option(help="local,或 ray(单机或集群)")] = "local",
    restart: Annotated[bool, typer.Option("--restart", help="丢弃未完成的旧作业,从头开始")] = False,
    as_json: JsonOption = False,
) -> None:
    """给整表、整个文件夹的历史工单重新贴标签;中断后再运行同一命令,从断处继续。

    例:jiesu relabel 2024/*.csv 2025.xlsx 结果.parquet · jiesu relabel 历史.csv 结果.csv --old department=承办单位
    """
    from jiesu_nlp.relabel import relabel as run

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} 件"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=as_json,
    )
    with errors(), bar:
        task = bar.add_task("贴标签", total=None, rate="")
        start: list[int] = []

        def show(rows: int) -> None:
            start.append(rows)
            seconds = bar.tasks[0].elapsed or 0
            rate = (rows - start[0]) / seconds if seconds else 0
            bar.update(task, completed=rows, rate=f"{rate:,.0f} 件/秒" if rate else "")

        try:
            summary = run(
                inputs, target, text=column or [], old=old or [], model=model, jobs=jobs, engine=engine,
                restart=restart, progress=show,
            )  # fmt: skip
        except KeyboardInterrupt:
            bar.stop()
            err.print(f"已中断;已完成的部分在 {target}.partial,再运行同一命令即可继续", markup=False)
            raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(summary.to_dict(), ensure_ascii=False))
    else:
        _show(summary, model)
    if summary.rejected:
        raise typer.Exit(1)


def _show(summary: "Summary", model: Path | None) -> None:
    out.print(f"{summary.rows:,} 件已贴标签,其中 {summary.review:,} 件建议复核 → {summary.out}", markup=False)
    if summary.rejected:
        err.print(f"{summary.rejected:,} 行不能分类,原行与原因见 {summary.rejects}", style="yellow", markup=False)
    for head, codes in summary.labels.items():
        table = Table(head, "件", "占比")
        for code, n in codes.most_common():
            table.add_row(*plain((named(head, code, model), f"{n:,}", f"{n / max(summary.rows, 1):.1%}")))
        out.print(table)
    for head, changed in summary.changed.items():
        total = sum(codes.total() for codes in changed.values())
        same = sum(codes[old] for old, codes in changed.items())
        table = Table("旧", "件", "不变", "改为", title=f"{head}:{total:,} 件有旧标签,{total - same:,} 件不同")
        for old, codes in sorted(changed.items(), key=lambda item: -item[1].total()):
            to = "、".join(f"{named(head, code, model)} {n:,}" for code, n in codes.most_common(_SHOWN) if code != old)
            table.add_row(*plain((named(head, old, model), f"{codes.total():,}", f"{codes[old]:,}", to)))
        out.print(table)
