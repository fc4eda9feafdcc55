"""Build the app bundle that Flower hands to both ends: what the two apps import, and nothing else of ours."""

from __future__ import annotations

import ast
import hashlib
import io
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
APPS = ("client.app", "server.app")
_OURS = ("client", "server", "protocols", "privacy")
_DATE = (2025, 1, 1, 0, 0, 0)  # the same sources make the same bytes
_PYPROJECT = """\
[project]
name = "parley"
version = "0.1.0"
description = "Letters between a coordinator and its members."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "parley"

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
run-dir = ""
village = ""
"""


def build(root: Path = ROOT) -> bytes:
    """Return the bundle: a zip of our modules that the apps reach, with Flower's manifest of their hashes."""
    contents = {"pyproject.toml": _PYPROJECT.encode()}
    for file in sorted(closure(root)):
        contents[file.relative_to(root).as_posix()] = file.read_bytes()
    manifest = "\n".join(
        f"{name},{hashlib.sha256(data).hexdigest()},{len(data) * 8}" for name, data in contents.items()
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (*contents.items(), (".info/CONTENT", manifest.encode())):
            archive.writestr(zipfile.ZipInfo(name, _DATE), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def closure(root: Path = ROOT) -> set[Path]:
    """Return the files of every module of ours that the apps import, directly or through others."""
    found: set[Path] = set()
    waiting = list(APPS)
    while waiting:
        for file in _files(root, waiting.pop()):
            if file not in found:
                found.add(file)
                waiting += _imports(file)
    return found


def _files(root: Path, module: str) -> list[Path]:
    """Return the file of a module of ours and those of the packages it is in; none for a name in a module."""
    parts = module.split(".")
    if parts[0] not in _OURS:
        return []
    packages = [root.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
    return [file for file in (*packages, root.joinpath(*parts).with_suffix(".py")) if file.is_file()]


def _imports(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
