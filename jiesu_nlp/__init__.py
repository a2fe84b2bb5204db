"""Read Chinese citizen complaints: category, department, handling, recurrence.

>>> from jiesu_nlp import classify
>>> classify("楼下饭馆油烟直接排到居民楼,天天熏得开不了窗").category.code
'livability'
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jiesu_nlp.history import History, Ticket
    from jiesu_nlp.predict import Classification, Classifier, Rejected, classify
    from jiesu_nlp.taxonomy import Taxonomy

__version__ = "0.1.0"
__all__ = ["Classification", "Classifier", "History", "Rejected", "Taxonomy", "Ticket", "classify"]

_HOME = {name: "predict" for name in ("Classification", "Classifier", "Rejected", "classify")}
_HOME |= {"Taxonomy": "taxonomy", "History": "history", "Ticket": "history"}


def __getattr__(name: str) -> Any:
    # Imported on first use, so that `import jiesu_nlp` costs nothing.
    if name not in _HOME:
        raise AttributeError(f"module 'jiesu_nlp' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"jiesu_nlp.{_HOME[name]}"), name)
