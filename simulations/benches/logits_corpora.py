"""Hold the texts of `parley bench logits`: a public one, and one for each silo, with files to train and to judge by.

Nobody trains on a file that is judged. Settings are chosen on one part of the held-out files, and figures are taken
on the other. Without folders of one's own the public text is Python's standard library, and the silos are packages
that this project itself requires.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from privacy.config import ConfigError
from simulations.corpora import stdlib

PACKAGES = {"algebra": "sympy", "databases": "sqlalchemy", "graphs": "networkx", "numerics": "scipy"}
PUBLIC = "public"  # a folder of this name in `--corpora` is the public text
TRAIN_BYTES, HELD_OUT_BYTES = 2_500_000, 250_000
_SMALLEST, _LARGEST = 400, 80_000  # bytes of a file: a table of numbers is no text
_SUFFIXES = (".py", ".txt", ".md", ".rst", ".text")
_LEFT_OUT = frozenset(
    {"test", "tests", "testing", "__pycache__", "_vendor", "externals", "_lib", "array_api_extra", "array_api_compat"}
)
LEAST_SILOS = 3  # a sum of two tells each about the other


@dataclass(frozen=True, slots=True)
class Silo:
    """Be one organisation's text: files to train on, to choose settings by, and to take figures on."""

    name: str
    train: tuple[str, ...]
    chosen_by: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Corpora:
    """Hold the public text and the silos'."""

    public: tuple[str, ...]
    silos: tuple[Silo, ...]

    @property
    def digest(self) -> str:
        """Return SHA-256 over all texts: what was trained on others is trained again."""
        state = hashlib.sha256()
        parts = [self.public, *(p for s in self.silos for p in ((s.name,), s.train, s.chosen_by, s.held_out))]
        for part in parts:
            for text in part:
                state.update(hashlib.sha256(text.encode()).digest())
            state.update(b"\n")
        return state.hexdigest()


def installed(seed: int, most: int = TRAIN_BYTES) -> Corpora:
    """Return the texts of installed packages, shuffled and dealt by the seed; at most so many bytes each to train."""
    return Corpora(_public(seed, most), tuple(_silo(n, _package(p), seed, most) for n, p in PACKAGES.items()))


def folders(root: Path, seed: int, most: int = TRAIN_BYTES) -> Corpora:
    """Return one silo for each folder in `root`; its folder `public`, if there is one, is the public text.

    Raises: ConfigError for fewer than three silos, or one with too little text to be dealt in three.
    """
    names = sorted(f.name for f in root.iterdir() if f.is_dir() and f.name != PUBLIC) if root.is_dir() else []
    if len(names) < LEAST_SILOS:
        raise ConfigError(str(root), "--corpora", f"expected at least {LEAST_SILOS} folders, one for each silo")
    own = root / PUBLIC
    public = _up_to(most, _dealt(_files(own), seed)) if own.is_dir() else _public(seed, most)
    silos = tuple(_silo(name, _files(root / name), seed, most) for name in names)
    for silo in silos:
        if not (silo.train and silo.chosen_by and silo.held_out):
            raise ConfigError(str(root / silo.name), "--corpora", "too few files of text: some are to be held out")
    return Corpora(public, silos)


def _public(seed: int, most: int) -> tuple[str, ...]:
    return _up_to(most, _dealt(stdlib.source_files(), seed))


def _package(name: str) -> list[Path]:
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ConfigError("parley bench logits", name, "not installed: give folders of text by --corpora")
    return _files(Path(found.origin).parent)


def _files(folder: Path) -> list[Path]:
    """Return the files of text below a folder, in the order of their names."""
    return sorted(
        f for f in folder.rglob("*") if f.suffix in _SUFFIXES and not _LEFT_OUT & set(f.relative_to(folder).parts)
    )


def _silo(name: str, files: Sequence[Path], seed: int, most: int) -> Silo:
    """Deal a silo's files: a tenth of the text, and no more than is needed, for each of the two held-out parts."""
    dealt = _dealt(files, seed)
    share = min(HELD_OUT_BYTES, most // 10, sum(f.stat().st_size for f in files) // 10)
    held_out, chosen_by = _up_to(share, dealt), _up_to(share, dealt)
    return Silo(name, _up_to(most, dealt), chosen_by, held_out)


def _dealt(files: Sequence[Path], seed: int) -> Iterator[str]:
    """Read the files that are fit, one by one, each text once, in an order that depends on the seed."""
    fit = [f for f in files if _SMALLEST <= f.stat().st_size <= _LARGEST]
    seen: set[str] = set()
    for i in np.random.default_rng(seed).permutation(len(fit)):
        text = stdlib.read(fit[i])
        if text not in seen:
            seen.add(text)
            yield text


def _up_to(limit: int, texts: Iterator[str]) -> tuple[str, ...]:
    """Take texts until they have so many characters; the iterator goes on after them."""
    taken, size = [], 0
    while size < limit and (text := next(texts, None)) is not None:
        taken.append(text)
        size += len(text)
    return tuple(taken)
