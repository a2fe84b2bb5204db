"""Any model folder, by the kind that it says it is."""

from pathlib import Path

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.models.base import Model
from jiesu_nlp.models.bert import BertModel
from jiesu_nlp.models.blend import BlendModel
from jiesu_nlp.models.store import model_folder, read_meta
from jiesu_nlp.models.tfidf import TfidfModel

KINDS: dict[str, type[TfidfModel] | type[BertModel] | type[BlendModel]] = {
    "tfidf": TfidfModel,
    "bert": BertModel,
    "blend": BlendModel,
}


def load_model(folder: str | Path | None = None) -> Model:
    """Read a model folder.

    Args:
        folder: its path, or ``default`` or ``accurate`` for a packaged model; the default one when ``None``.

    Raises:
        ModelFormatError: it cannot be read, or is of a kind that this version does not know.
        MissingExtraError: it needs tokenizers or onnxruntime, which are not installed.
    """
    path = model_folder(folder)
    kind = read_meta(path).get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ModelFormatError(f"{path}: kind is {kind!r}, expected one of {', '.join(KINDS)}")
    return KINDS[kind].load(str(path))
