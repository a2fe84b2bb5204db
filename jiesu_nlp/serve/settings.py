"""Settings of the server: from a file, the environment (``JIESU_…``), or the command line."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20
_KEY_CHARS = 16


def _strong(key: SecretStr) -> SecretStr:
    if len(text := key.get_secret_value()) < _KEY_CHARS or not text.isascii():
        raise ValueError(f"a key needs at least {_KEY_CHARS} characters, all ASCII")
    return key


Key = Annotated[SecretStr, AfterValidator(_strong)]


class Settings(BaseSettings):
    """What a server is told. Environment variables win over ``jiesu.env`` in the working folder."""

    model_config = SettingsConfigDict(
        env_prefix="JIESU_", env_file="jiesu.env", extra="ignore", protected_namespaces=()
    )

    host: str = Field("127.0.0.1", description="address to bind; loopback unless told otherwise")
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1, le=64, description="server processes")
    model: Path | None = Field(
        None, description="model folder, the packaged model by default; reloaded when it changes"
    )
    history: str | None = Field(None, description="history file or URL; without one, recurrence is a prior")
    feedback: Path = Field(Path("jiesu-feedback.db"), description="where corrections are stored")
    names: list[str] = Field(
        [], description="host names whose pages may use a loopback server without keys, behind a proxy"
    )
    keys: list[Key] = Field([], description="bearer keys; without any, requests need none")
    max_body: int = Field(2 * MIB, gt=0, description="bytes of a request's body, files apart")
    max_file: int = Field(64 * MIB, gt=0, description="bytes of a file to label")
    max_text: int = Field(20_000, gt=0, description="characters of a text")
    max_batch: int = Field(256, gt=0, description="texts of a batch")
    concurrency: int = Field(32, gt=0, description="requests that may work or wait at once in a process; more get 429")
    threads: int = Field(2, gt=0, description="requests of a process that are worked on at once")
    timeout: float = Field(30.0, gt=0, description="seconds after which a request gets 504")
    shutdown: float = Field(30.0, gt=0, description="seconds that accepted requests get when the server stops")
    reload_every: float = Field(2.0, gt=0, description="seconds between looks at the model folder")
    files: Path | None = Field(None, description="folder for files being labelled; a temporary one by default")
    keep_files: float = Field(3600.0, gt=0, description="seconds that a labelled file is kept")
