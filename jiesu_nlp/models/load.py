"""Any model folder, by the kind that it says it is."""

from pathlib import Path

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.base import Model
from jiesu_nlp.models.bert import BertModel
from jiesu_nlp.models.blend import BlendModel
from jiesu_nlp.models.store import read_meta
from jiesu_nlp.models.tfidf import TfidfModel

KINDS: dict[str, type[TfidfModel] | type[BertModel] | type[BlendModel]] = {
    "tfidf": TfidfModel,
    "bert": BertModel,
    "blend": BlendModel,
}


def load_model(folder: str | Path) -> Model:
    """Read a model folder.

    Raises:
        ModelFormatError: it cannot be read, or is of a kind that this version does not know.
        MissingExtraError: it needs onnxruntime, which is not installed.
    """
    kind = read_meta(folder).get("kind")
    if kind not in KINDS:
        raise ModelFormatError(f"{folder}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    return KINDS[kind].load(str(folder))
