"""Three private silos: Python's own standard library, split by package, with held-out files.

Every machine with Python has them, and no two versions have quite the same: what a version lacks is simply not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulations.corpora import stdlib
from simulations.corpora.public import draw

# Top-level modules and packages of each silo, over CPython 3.11 to 3.14.
MODULES = {
    "networking": "asynchat asyncore cgi cgitb email ftplib http imaplib ipaddress mailbox mailcap mimetypes netrc "
    "nntplib nturl2path poplib smtpd smtplib socket socketserver ssl telnetlib urllib uuid webbrowser "
    "wsgiref xmlrpc",
    "data_formats": "_markupbase _pydatetime _pydecimal _strptime aifc annotationlib ast base64 bz2 calendar chunk "
    "codecs colorsys compression configparser copy copyreg csv dataclasses datetime dbm decimal difflib enum "
    "fractions gettext gzip html imghdr json locale lzma numbers pickle pickletools plistlib pprint "
    "quopri random reprlib shelve sndhdr sqlite3 statistics string stringprep struct sunau tarfile "
    "textwrap token tokenize tomllib types uu wave xdrlib xml zipfile zoneinfo",
    "concurrency": "_aix_support _osx_support _pyio _threading_local asyncio bdb cmd concurrent contextlib "
    "contextvars ctypes curses fileinput fnmatch genericpath getpass glob io linecache logging multiprocessing "
    "ntpath os pathlib pdb pipes pkgutil platform posixpath pty queue runpy sched selectors shutil signal site "
    "stat subprocess sysconfig tempfile threading timeit trace tracemalloc tty venv weakref zipapp",
}
TRAIN_BYTES = 1_000_000  # at most, so that the silos stay balanced
HELD_OUT_BYTES = 100_000
LARGEST_HELD_OUT = 12_000  # bytes of one file: held-out text comes from many files


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the standard library."""

    name: str  # "email/message.py"
    text: str

    @property
    def size(self) -> int:
        """Return the file's length in bytes."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class Silo:
    """What one member holds: files to train on, and others that nobody trains on."""

    name: str
    train: tuple[Source, ...]
    held_out: tuple[Source, ...]


def silos() -> tuple[Silo, ...]:
    """Return the three silos of this machine's Python: the same files on every call."""
    return tuple(map(silo, MODULES))


def silo(name: str) -> Silo:
    """Return one of them."""
    return _silo(name, MODULES[name].split())


def mixed(parts: Sequence[Silo]) -> str:
    """Return held-out text of all silos, an equal number of characters of each."""
    texts = [joined(silo.held_out) for silo in parts]
    share = min(map(len, texts))
    return "".join(text[:share] for text in texts)


def joined(sources: Iterable[Source]) -> str:
    """Return the files' texts, one after the other."""
    return "\n".join(source.text for source in sources)


def write(parts: Sequence[Silo], folder: Path) -> None:
    """Write `folder/NAME/*.txt`, each member's own data, and `folder/held_out/` with NAME.txt and mixed.txt."""
    for silo in parts:
        (folder / silo.name).mkdir(parents=True, exist_ok=True)
        for source in silo.train:
            (folder / silo.name / (source.name.replace("/", ".") + ".txt")).write_text(source.text, encoding="utf-8")
    held_out = folder / "held_out"
    held_out.mkdir(exist_ok=True)
    for silo in parts:
        (held_out / f"{silo.name}.txt").write_text(joined(silo.held_out), encoding="utf-8")
    (held_out / "mixed.txt").write_text(mixed(parts), encoding="utf-8")


def _silo(name: str, modules: Sequence[str]) -> Silo:
    """Deal a silo's files, shuffled by name: first the held-out ones, then as many to train on as fit."""
    files = sorted((s for module in modules for s in _module(module)), key=lambda s: (draw(s.name), s.name))
    held_out = up_to(HELD_OUT_BYTES, (s for s in files if s.size <= LARGEST_HELD_OUT))
    return Silo(name, up_to(TRAIN_BYTES, (s for s in files if s not in held_out)), held_out)


def _module(name: str) -> list[Source]:
    """Read a module's files, or a package's; [] if this Python has no such module, or has it in C."""
    single = stdlib.root() / f"{name}.py"
    found = [single] if single.exists() else stdlib.source_files(name)
    sources = (Source(p.relative_to(stdlib.root()).as_posix(), stdlib.read(p)) for p in found)
    return [source for source in sources if source.text.strip()]


def up_to(limit: int, sources: Iterable[Source]) -> tuple[Source, ...]:
    """Take the sources that still fit into `limit` bytes, in order."""
    taken: list[Source] = []
    size = 0
    for source in sources:
        if size + source.size <= limit:
            taken.append(source)
            size += source.size
    return tuple(taken)
