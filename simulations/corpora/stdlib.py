"""Python's own standard library, as files on this machine."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

_LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "lib-dynload"})


def root() -> Path:
    """Return the folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(package: str = "") -> list[Path]:
    """List the source files of the whole library, or of one package, in a fixed order; tests are left out."""
    found = []
    for folder, below, names in os.walk(root() / package):
        below[:] = [name for name in below if name not in _LEFT_OUT]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


def read(path: Path) -> str:
    """Return a source file's text; bytes that are no UTF-8 are replaced."""
    return path.read_text(encoding="utf-8", errors="replace")
