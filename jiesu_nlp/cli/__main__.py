"""``python -m jiesu_nlp.cli``."""

from jiesu_nlp.cli import app

app()
