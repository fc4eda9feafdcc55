"""Find each member's text for an experiment that is simulated here: what it trains on, and what nobody trains on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client.data import documents
from privacy.config import ConfigError, nearest
from simulations.corpora import silos
from simulations.experiment import SILO, Experiment

HELD_OUT_CHARACTERS = 24_000  # of each member: equal shares make the mixed text, and keep judging short


@dataclass(frozen=True, slots=True)
class MemberText:
    """Name where one member's training text lies, as its home will read it, and hold its held-out text."""

    data: Path
    held_out: str


def lay_out(experiment: Experiment, file: Path, folder: Path) -> dict[str, MemberText]:
    """Write what the members need under `folder` and return it by member; `file` is named in errors.

    A silo of the standard library is written out as a folder of files. A path's documents are split: every tenth,
    or a single document's last tenth, is held out.
    Raises: ConfigError.
    """
    found = {m.name: _member(m.data, f"members.{m.name}.data", file, folder / m.name) for m in experiment.members}
    share = min(len(t.held_out) for t in found.values())
    return {name: MemberText(t.data, t.held_out[:share]) for name, t in found.items()}


def training(texts: Mapping[str, MemberText]) -> dict[str, list[str]]:
    """Return every member's documents, read as a member's home reads them."""
    return {name: list(documents(text.data)) for name, text in texts.items()}


def _member(data: str, key: str, file: Path, folder: Path) -> MemberText:
    if data.startswith(SILO):
        return _silo(data.removeprefix(SILO), key, file, folder)
    if not data:
        raise ConfigError(file, key, "expected silo:NAME or a path, to simulate this member")
    kept, held = _split(list(documents((file.parent / data).resolve())))
    folder.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(kept):
        (folder / f"{number:06d}.txt").write_text(text, encoding="utf-8")
    return MemberText(folder, "\n".join(held)[:HELD_OUT_CHARACTERS])


def _silo(name: str, key: str, file: Path, folder: Path) -> MemberText:
    parts = {silo.name: silo for silo in silos.silos()}
    if name not in parts:
        raise ConfigError(file, key, f"no such silo ({nearest(name, list(parts))})")
    folder.mkdir(parents=True, exist_ok=True)
    for source in parts[name].train:
        (folder / (source.name.replace("/", ".") + ".txt")).write_text(source.text, encoding="utf-8")
    return MemberText(folder, silos.joined(parts[name].held_out)[:HELD_OUT_CHARACTERS])


def _split(texts: list[str]) -> tuple[list[str], list[str]]:
    if len(texts) == 1:
        cut = len(texts[0]) * 9 // 10
        return [texts[0][:cut]], [texts[0][cut:]]
    held = texts[::10]
    return [t for i, t in enumerate(texts) if i % 10], held
