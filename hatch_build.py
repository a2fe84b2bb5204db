"""Compiles the C sources of `jiesu_nlp.native` while a wheel or an editable install is made.

They do not use Python's own interface, so one library serves every version of Python on a platform, and
nothing but a C compiler is needed. Where there is none, or it fails, the package is built without them: it
gives the same answers, more slowly. ``JIESU_COMPILED=0`` leaves them out; ``CC`` names another compiler.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = {"win32": "jiesu.dll", "darwin": "libjiesu.dylib"}.get(sys.platform, "libjiesu.so")
# Contracted to fused operations, sums would round otherwise than Python's.
FLAGS = ("-std=c99", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off")


def compile_library(folder: Path) -> str | None:
    """Compile the sources in a folder to a library there; say why, where that could not be done."""
    library = folder / LIBRARY
    library.unlink(missing_ok=True)
    if os.environ.get("JIESU_COMPILED") == "0":
        return "JIESU_COMPILED is 0"
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, *FLAGS, "-o", str(library), *map(str, sorted(folder.glob("*.c"))), "-lm"]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 and library.exists() else done.stderr or f"{compiler[0]} failed"


class NativeHook(BuildHookInterface[Any]):
    """Adds the compiled library to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the files are collected."""
        if reason := compile_library(Path(self.root) / "jiesu_nlp" / "native"):
            self.app.display_warning(f"jiesu_nlp is built without its compiled part: {reason}")
            return
        build_data["artifacts"].append(f"jiesu_nlp/native/{LIBRARY}")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
