"""Keep what a member's training knows from one round to the next, so that a restart costs nothing.

What an optimiser of one member's own remembers, and the clipping norm that fits its gradients, belong to a session.
They stay at home: nothing here is ever part of an answer, and only the owner can read the files.

A letter may be worked on twice, as after a crash. So a state is kept under the number of the letter that made it, and
a letter begins from the newest state before its own: worked on again, it begins where it began.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from client.folder import make_private_folder, replace_private
from client.quiet import LOG

Arrays = Mapping[str, NDArray[np.generic]]
MOST_SESSIONS = 64  # whose states are kept; an older one begins anew
_KEPT = 2  # states of a session: the newest, and the one that its letter began from


class States(Protocol):
    """Remember arrays from letter to letter of a session."""

    def before(self, session: str, number: int) -> dict[str, NDArray[np.generic]]:
        """Return the newest state that a letter before `number` left; nothing if none did."""

    def keep(self, session: str, number: int, arrays: Arrays) -> None:
        """Remember what letter `number` leaves, in the place of what it left when it was worked on before."""


class MemoryStates:
    """Remember in memory alone: for simulations, and for homes whose process is the session's."""

    def __init__(self) -> None:
        self._states: dict[str, dict[int, dict[str, NDArray[np.generic]]]] = {}

    def before(self, session: str, number: int) -> dict[str, NDArray[np.generic]]:
        """Return the newest state that a letter before `number` left; nothing if none did."""
        states = self._states.get(session, {})
        newest = max((n for n in states if n < number), default=None)
        return {} if newest is None else {name: array.copy() for name, array in states[newest].items()}

    def keep(self, session: str, number: int, arrays: Arrays) -> None:
        """Remember what letter `number` leaves, in the place of what it left when it was worked on before."""
        states = self._states.pop(session, {})
        states[number] = {name: np.array(array) for name, array in arrays.items()}
        for old in sorted(states)[:-_KEPT]:
            del states[old]
        self._states[session] = states  # now the last
        for gone in list(self._states)[:-MOST_SESSIONS]:
            del self._states[gone]


class FolderStates:
    """Remember in files of a home: one for each letter, written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def before(self, session: str, number: int) -> dict[str, NDArray[np.generic]]:
        """Return the newest state that a letter before `number` left; nothing if none did, or if it was damaged."""
        newest = max((n for n in self._numbers(session) if n < number), default=None)
        if newest is None:
            return {}
        try:
            return dict(load(self._file(session, newest).read_bytes()))
        except (OSError, SafetensorError, ValueError):
            LOG.warning("the state of a session was damaged: its training begins anew")
            return {}

    def keep(self, session: str, number: int, arrays: Arrays) -> None:
        """Remember what letter `number` leaves, in the place of what it left when it was worked on before."""
        if not self.folder.is_dir():
            make_private_folder(self.folder)
        content = save({name: np.array(array, order="C") for name, array in arrays.items()})
        replace_private(self._file(session, number), content)
        for old in self._numbers(session)[:-_KEPT]:
            self._file(session, old).unlink(missing_ok=True)
        self._forget_the_oldest()

    def _forget_the_oldest(self) -> None:
        files = sorted(self.folder.glob("*.safetensors"), key=lambda f: f.stat().st_mtime_ns)
        sessions = list(dict.fromkeys(f.name.split(".")[0] for f in reversed(files)))
        for file in files:
            if file.name.split(".")[0] in sessions[MOST_SESSIONS:]:
                file.unlink(missing_ok=True)

    def _numbers(self, session: str) -> list[int]:
        found = (f.name.split(".")[1] for f in self.folder.glob(f"{_label(session)}.*.safetensors"))
        return sorted(int(number) for number in found if number.isdecimal())

    def _file(self, session: str, number: int) -> Path:
        return self.folder / f"{_label(session)}.{number}.safetensors"


def _label(session: str) -> str:
    """Return a name for files: a session's own may be anything that a coordinator chose."""
    return hashlib.sha256(os.fsencode(f"parley/v1/state/{session}")).hexdigest()[:32]
