"""Public text that every installation has: documentation and some code of permissively licensed dependencies."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import io
import re
import tokenize
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simulations.corpora import stdlib
from simulations.corpora.licences import licence_of, permitted
from simulations.corpora.overlap import Shingles

_NAMES = (
    "torch transformers scipy sympy numpy networkx SQLAlchemy ray flwr huggingface_hub peft accelerate "
    "opacus dp-accounting mpmath pydantic fastapi starlette uvicorn httpx httpcore websockets rich click "
    "typer prompt_toolkit Jinja2 Mako alembic fsspec cryptography jsonschema referencing opt_einsum dm- "
    "tree absl-py anyio attrs filelock packaging markdown-it-py sortedcontainers tomlkit wrapt urllib3 "
    "requests watchfiles psutil tokenizers safetensors "
)
PACKAGES = tuple(_NAMES.split())
# Copies of other people's work, of which the package's own licence says nothing, or of the standard library.
_FOLDERS = (
    "vendor _vendor vendored _vendored thirdparty third_party thirdparty_files externals extern external "
    "_external backports compat _compat typeshed stdlib jaraco modeling_flash_attention_utils "
    "array_api_compat array_api_extra "
)
_COPIES = frozenset(_FOLDERS.split())
_COPIED_FILES = (
    "typing_extensions",
    "importlib_metadata",
    "importlib_resources",
    "zipp",
    "_backport",
    "_argparse",
    "six.py",
)
PROSE_CAP = 4_000_000  # bytes that one package may lend of each kind
CODE_CAP = 800_000
CODE_FILES = 30  # of a hundred files lend their code as it stands; the others lend only their prose
HELD_OUT_FILES = 2  # of a hundred files are never trained on
_ODD = re.compile(r"[^A-Za-z\s]+")
_LEGAL = re.compile(r"licen[sc]e|copyright|all rights reserved", re.IGNORECASE)
_HEADER = re.compile(r"(?:[ \t]*(?:#.*)?\n)+")
MOST_SHARED = 0.02  # a text that shares more of its runs of words with the standard library is refused


@dataclass(frozen=True, slots=True)
class Document:
    """One file's contribution to the public corpus."""

    package: str
    name: str  # the file's path below site-packages
    kind: str  # "prose" or "code"
    held_out: bool
    text: str


@dataclass(slots=True)
class Tally:
    """What became of the files that were read, in bytes."""

    kept: dict[str, dict[str, int]] = field(default_factory=dict)  # package -> kind -> bytes
    refused_licences: dict[str, str] = field(default_factory=dict)
    refused_texts: int = 0
    refused_bytes: int = 0
    shared: float = 0.0  # mean share of runs of words that what was kept has in common with the standard library


def public_corpus(private: Shingles, packages: Sequence[str] = PACKAGES) -> tuple[list[Document], Tally]:
    """Return the public documents of the installed packages, in an order that depends on their names only.

    Trusts: the packages' own declarations of their licences.
    """
    tally, kept = Tally(), []
    weighed = 0.0
    for package in packages:
        for document in package_documents(package, tally):
            if not _has_room(tally, document):
                continue
            if (share := private.share(document.text)) > MOST_SHARED:
                tally.refused_texts += 1
                tally.refused_bytes += len(document.text)
                continue
            tally.kept[package][document.kind] += len(document.text)
            weighed += share * len(document.text)
            kept.append(document)
    tally.shared = weighed / max(1, sum(len(d.text) for d in kept))
    return sorted(kept, key=lambda d: (draw(d.name), d.name)), tally


def package_documents(package: str, tally: Tally) -> Iterator[Document]:
    """Yield a package's documents in shuffled, fixed order; none if its licence is not on the list."""
    licence = licence_of(package)  # "unknown" if it is not installed
    if not permitted(licence):
        tally.refused_licences[package] = licence
        return
    distribution = importlib.metadata.distribution(package)
    about = distribution.metadata.json.get("description", "")
    if isinstance(about, str) and about.strip():
        yield Document(package, f"{package}/METADATA", "prose", False, about)
    for name in sorted((str(f) for f in distribution.files or []), key=draw):
        if lendable(name) and (path := Path(str(distribution.locate_file(name)))).exists():
            yield from _documents(package, name, stdlib.read(path))


def lendable(name: str) -> bool:
    """Say whether a file of a package is text of its own: no tests, no copies of other people's work, no licences."""
    path = Path(name)
    folders = {part.lower() for part in path.parts}
    if folders & _COPIES or path.name.startswith(_COPIED_FILES) or ".." in folders:
        return False
    if any(word in path.name.lower() for word in ("license", "licence", "copying", "notice", "third")):
        return False
    if path.suffix in (".md", ".rst"):
        return True
    return path.suffix == ".py" and not folders & {"tests", "test", "testing", "_pb2"} and "_pb2" not in path.name


def prose(source: str) -> str:
    """Return the docstrings and comments of a Python file, in their order; "" if it does not parse."""
    try:
        found = _docstrings(ast.parse(source)) + _comments(source)
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError):
        return ""
    return "\n\n".join(text for _, text in sorted(found) if len(text) >= 40 and not _LEGAL.search(text))


def without_header(source: str) -> str:
    """Drop the comment lines at a file's top if they speak of copyright or licences: the same text in every file."""
    header = _HEADER.match(source)
    return source[header.end() :] if header and _LEGAL.search(header.group()) else source


def draw(name: str) -> int:
    """Return a fixed pseudo-random number for a name: what orders, deals and holds out files."""
    return zlib.crc32(f"parley {name}".encode())


def _documents(package: str, name: str, text: str) -> Iterator[Document]:
    held_out = draw(name + " held out") % 100 < HELD_OUT_FILES
    is_python = name.endswith(".py")
    if is_python and draw(name + " kind") % 100 < CODE_FILES:
        kind, text = "code", without_header(text)
    else:
        kind, text = "prose", prose(text) if is_python else text
    if len(text) >= 200 and _readable(text):
        yield Document(package, name, kind, held_out, text)


def _readable(text: str) -> bool:
    """Refuse tables of numbers and embedded data: mostly ASCII, mostly letters and blanks, lines of human length."""
    return len(_ODD.sub("", text)) > 0.65 * len(text) and max(map(len, text.splitlines())) < 1000


def _has_room(tally: Tally, document: Document) -> bool:
    cap = CODE_CAP if document.kind == "code" else PROSE_CAP
    kinds = tally.kept.setdefault(document.package, {"prose": 0, "code": 0})
    return kinds[document.kind] + len(document.text) <= cap


def _docstrings(tree: ast.Module) -> list[tuple[int, str]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node, clean=True)):
            found.append((node.body[0].lineno, text))
    return found


def _comments(source: str) -> list[tuple[int, str]]:
    """Return each run of whole-line comments as one text."""
    blocks: list[tuple[int, list[str]]] = []
    last = -2
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            line = token.start[0]
            if line != last + 1:
                blocks.append((line, []))
            blocks[-1][1].append(inspect.cleandoc(token.string.lstrip("#:!")))
            last = line
    return [(line, "\n".join(texts)) for line, texts in blocks]
