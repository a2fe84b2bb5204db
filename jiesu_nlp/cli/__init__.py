"""The ``jiesu`` command: each subcommand turns arguments into one call below."""

from jiesu_nlp.cli import batch, label, models, past, server  # noqa: F401  (importing them registers their commands)
from jiesu_nlp.cli.common import app

__all__ = ["app"]
