"""Errors that a caller may want to tell apart; each message says what to do."""


class JiesuError(ValueError):
    """Base of every error that this library raises on purpose."""


class InvalidTextError(JiesuError):
    """The text cannot be classified. The message never quotes it."""


class TextTypeError(InvalidTextError):
    """The text is not a string."""


class EmptyTextError(InvalidTextError):
    """The text is empty or white space."""


class TextTooLongError(InvalidTextError):
    """The text is longer than `text.MAX_CHARS`."""


class NoChineseError(InvalidTextError):
    """The text has no Chinese character."""


class TaxonomyError(JiesuError):
    """A taxonomy folder is missing, malformed or inconsistent; names file and line."""


class UnknownLabelError(JiesuError):
    """A label is neither a code, a name nor an alias of the taxonomy."""


class TrainingDataError(JiesuError):
    """A training table cannot be used as it is; names the rows and the reason."""


class TableError(JiesuError):
    """A table cannot be read, or its columns cannot be guessed."""


class ModelFormatError(JiesuError):
    """A model folder is unreadable, damaged, or of another format version."""


class TaxonomyMismatchError(ModelFormatError):
    """A model was trained under another taxonomy than the one given."""


class HistoryError(JiesuError):
    """A history cannot be opened, is of another format, or lacks a ticket."""


class MissingExtraError(JiesuError, ImportError):
    """An optional dependency is not installed; the message gives the command."""
