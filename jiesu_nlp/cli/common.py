"""What every command shares: the app, the consoles, options, and how errors end."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jiesu_nlp.errors import JiesuError

app = typer.Typer(
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold a ticket's text
    help="读市民诉求,给出类别、部门、派单方式与未诉先办。",
)
out = Console(emoji=False)
err = Console(stderr=True, emoji=False)
JOBS = os.cpu_count() or 1


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", help="显示版本")] = False,
) -> None:
    if version:
        from jiesu_nlp import __version__

        typer.echo(__version__)
        raise typer.Exit


_MODEL = "模型文件夹,或 accurate(自带的合一模型,更准更慢,须装 onnx 附加包);不给则用自带的默认模型"
ModelOption = Annotated[Path | None, typer.Option("--model", help=_MODEL)]
JsonOption = Annotated[bool, typer.Option("--json", help="输出 JSON,供程序使用")]
TextOption = Annotated[list[str] | None, typer.Option("--text", help="正文列名,可多次;按顺序相连")]
LabelOption = Annotated[list[str] | None, typer.Option("--label", help="标签列:head=列名 或 列名,可多次")]


@contextmanager
def errors() -> Iterator[None]:
    """A library's or a file's error becomes one line and exit code 2; Ctrl-C becomes 130."""
    try:
        yield
    except JiesuError as error:
        err.print(f"错误:{error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    except BrokenPipeError:  # such as `| head`
        sys.stderr.close()
        raise typer.Exit(1) from None
    except OSError as error:
        err.print(f"错误:{error.strerror or error}:{error.filename or ''}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        err.print("已中断")
        raise typer.Exit(130) from None


def plain(cells: Iterable[object]) -> list[Text]:
    """Cells of a table as they are: in a ticket, [brackets] are no markup."""
    return [Text("" if cell is None else str(cell)) for cell in cells]


@cache
def _names(model: Path | None) -> dict[str, dict[str, str]]:
    from jiesu_nlp.predict import Classifier
    from jiesu_nlp.taxonomy import Taxonomy

    taxonomy = Classifier.load(model).taxonomy if model else Taxonomy.load()
    return {head: {label.code: label.name for label in labels} for head, labels in taxonomy.heads.items()}


def named(head: str, code: str | None, model: Path | None = None) -> str | None:
    """A label's name, for people; the code of one that the model (the packaged ones by default) does not have."""
    return _names(model).get(head, {}).get(code, code) if code else None


def figures(heads: Any) -> None:
    """Print the figures of each head as a table."""
    names = ("macro_f1", "top1", "top3", "ece", "accuracy_at_70", "rows")
    table = Table("head", *names)
    for head, values in heads.items():
        table.add_row(head, *(f"{values[n]:.4f}" if n != "rows" else f"{values[n]:.0f}" for n in names))
    out.print(table)
