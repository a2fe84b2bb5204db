"""Running the server: one process, or several that share a port."""

import os
import signal
import sys
from contextlib import ExitStack
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from pydantic import ValidationError
from pydantic_settings import SettingsError
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from jiesu_nlp.errors import JiesuError
from jiesu_nlp.serve.guard import set_up_logging
from jiesu_nlp.serve.protocol import LimitedProtocol
from jiesu_nlp.serve.settings import Settings


def run(given: dict[str, Any]) -> None:
    """Serve until told to stop; then finish what was accepted.

    Args:
        given: settings from the command line, which win over the environment.

    Raises:
        JiesuError: a setting is wrong; names it, and not its value.
    """
    for name, value in given.items():
        os.environ[f"JIESU_{name.upper()}"] = str(value)  # so that every process reads the same
    try:
        settings = Settings()
    except SettingsError:
        raise JiesuError("settings: a list is written as JSON, such as JIESU_KEYS='[\"…\"]'") from None
    except ValidationError as error:
        wrong = ", ".join(f"JIESU_{str(e['loc'][0]).upper()} ({e['msg']})" for e in error.errors(include_input=False))
        raise JiesuError(f"settings: {wrong}") from None
    # Uvicorn raises the signal that stopped it again: by default that ends the process before its files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with ExitStack() as stack:
        if settings.files is None:  # all processes must see the files that are being labelled
            os.environ["JIESU_FILES"] = stack.enter_context(TemporaryDirectory(prefix="jiesu-files-"))
        _serve(settings)


def _serve(settings: Settings) -> None:
    set_up_logging()
    config = uvicorn.Config(
        "jiesu_nlp.serve.run:build",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=round(settings.shutdown),
        timeout_keep_alive=5,
        http=LimitedProtocol,
        ws="none",
    )
    server = uvicorn.Server(config)
    if settings.workers == 1:
        server.run()
    else:
        several = Multiprocess(config, sockets=[config.bind_socket()])
        several.run()
        if any(one.exitcode == STARTUP_FAILURE for one in several.processes):
            sys.exit(STARTUP_FAILURE)  # as a single process does, so that who runs it can tell


def build() -> Any:
    """The application of one process."""
    from jiesu_nlp.serve.app import create_app

    set_up_logging()
    return create_app()
