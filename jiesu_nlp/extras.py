"""Optional dependencies: asked for by the job that needs them, with the command that installs them."""

from importlib.util import find_spec

from jiesu_nlp.errors import MissingExtraError


def need(extra: str, *modules: str) -> None:
    """Check that what an extra installs is there.

    Raises:
        MissingExtraError: a module is not installed; the message gives the command.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"{', '.join(missing)} is not installed; run: pip install 'jiesu_nlp[{extra}]'")
