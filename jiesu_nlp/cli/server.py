"""``jiesu serve`` and ``jiesu feedback``."""

from pathlib import Path
from typing import Annotated

import typer

from jiesu_nlp.cli.common import ModelOption, app, errors, out


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="监听地址,默认 127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="端口,默认 8000")] = None,
    workers: Annotated[int | None, typer.Option(help="进程数,默认 1")] = None,
    model: ModelOption = None,
    history: Annotated[str | None, typer.Option("--db", help="历史库文件或网址")] = None,
) -> None:
    """启动 HTTP 服务和网页。其余设置见环境变量 JIESU_… 或 jiesu.env。

    例:jiesu serve · JIESU_KEYS='["一串不短于16位的字母数字"]' jiesu serve --host 0.0.0.0 --workers 4 --db 历史.db
    """
    from jiesu_nlp.extras import need

    with errors():
        need("serve", "fastapi", "uvicorn", "httptools", "orjson", "pydantic_settings", "prometheus_client")
        from jiesu_nlp.serve.run import run

        given = {"host": host, "port": port, "workers": workers, "model": model, "history": history}
        run({name: value for name, value in given.items() if value is not None})


@app.command()
def feedback(
    store: Annotated[Path, typer.Argument(help="服务存更正的文件,默认名 jiesu-feedback.db")],
    target: Annotated[Path, typer.Argument(help="写出的 jsonl,可直接用于 jiesu train")],
) -> None:
    """把人工更正导出为训练数据。

    例:jiesu feedback jiesu-feedback.db 更正.jsonl
    """
    from jiesu_nlp.serve.feedback import FeedbackStore

    with errors():
        number = FeedbackStore(store, create=False).export(target)
    out.print(f"{number} 条更正 → {target}", markup=False)
