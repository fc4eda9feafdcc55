"""Check an installation and say what is missing, without starting anything and without looking at private data."""

import importlib.metadata
import importlib.util
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from protocols.carriers.flower_road import command
from simulations.experiment import SHIPPED

_NEEDS_MB = 1500
_PACKAGES = ("flwr", "torch", "transformers", "peft", "safetensors", "dp-accounting", "cryptography", "msgpack")
_FLOORS = ("privacy", "protocols", "client", "server", "simulations")


@dataclass(frozen=True, slots=True)
class Finding:
    """Be one check: what was looked at, whether it is as it must be, and what was found or what to do."""

    what: str
    good: bool
    said: str


def examine() -> list[Finding]:
    """Run every check; one that breaks is a bad finding, never an exception."""
    findings = []
    for name, check in _checks():
        try:
            findings.append(check())
        except Exception as broken:  # noqa: BLE001  a doctor reports what fails
            findings.append(Finding(name, False, f"could not be checked ({type(broken).__name__})"))
    return findings


def _checks() -> Iterator[tuple[str, Callable[[], Finding]]]:
    yield "python", _python
    for package in _PACKAGES:
        yield package, lambda package=package: _package(package)  # type: ignore[misc]
    yield "import names", _import_names
    yield "Flower's programs", _flower
    yield "Flower's simulation", _simulation
    yield "base model", _base_model
    yield "loopback", _loopback
    yield "memory", _memory
    yield "SQLite", _sqlite


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", sys.version_info >= (3, 11), f"{version}, 3.11 or newer is needed")


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed: run `make demo`, or pip install with constraints.txt")


def _import_names() -> Finding:
    """Our packages have plain names; another distribution's folder of the same name would be run instead."""
    here = Path(__file__).parents[1]
    strays = []
    for name in _FLOORS:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).parent if spec and spec.origin else None
        if origin is None or origin.parent != here:
            strays.append(name)
    said = f"shadowed by something else: {', '.join(strays)}" if strays else "all five are ours"
    return Finding("import names", not strays, said)


def _flower() -> Finding:
    programs = ("flower-superlink", "flower-superexec", "flower-supernode", "flwr-serverapp", "flwr-clientapp")
    missing = [p for p in programs if not Path(command(p)).exists()]
    return Finding("Flower's programs", not missing, f"missing: {', '.join(missing)}" if missing else "all there")


def _simulation() -> Finding:
    there = importlib.util.find_spec("ray") is not None
    return Finding(
        "Flower's simulation", True, "installed" if there else "not installed (extra: simulation); optional"
    )


def _base_model() -> Finding:
    weights = SHIPPED / "model.safetensors"
    if not weights.is_file():
        return Finding("base model", False, f"{weights} is missing: python -m simulations.base.train makes it")
    return Finding("base model", True, f"{weights.stat().st_size / 1e6:.1f} MB")


def _loopback() -> Finding:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Finding("loopback", True, "a port can be listened on")


def _memory() -> Finding:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return Finding("memory", True, "not known on this system")
    free = next(int(line.split()[1]) // 1024 for line in meminfo.read_text().splitlines() if "MemAvailable" in line)
    disk = shutil.disk_usage(".").free // 2**20
    good = free >= _NEEDS_MB and disk >= _NEEDS_MB
    return Finding(
        "memory", good, f"{free} MB of memory and {disk} MB of disk free; a demo needs about {_NEEDS_MB} MB"
    )


def _sqlite() -> Finding:
    return Finding("SQLite", sqlite3.sqlite_version_info >= (3, 24), sqlite3.sqlite_version)
