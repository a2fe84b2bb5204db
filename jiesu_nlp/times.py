"""Points in time: one reading of those without a zone, everywhere."""

from datetime import UTC, datetime

from jiesu_nlp.errors import TextTypeError


def as_utc(time: datetime) -> datetime:
    """The time with its zone; one without a zone, as tables have it, is taken as UTC everywhere alike.

    Raises:
        TextTypeError: not a time.
    """
    if not isinstance(time, datetime):
        raise TextTypeError(f"expected a datetime, got {type(time).__name__}; use datetime or tables.parse_time")
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def month_start(time: datetime) -> datetime:
    """The beginning of the month of a time, in UTC."""
    return as_utc(time).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
