"""Make a home's mouth from what its `home.toml` says under [text]; no model is loaded before it is needed."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from client.documents import Document
from client.experts.view import View
from client.folder import Folder
from client.model import Base
from client.settings import TextSettings, require_private
from client.speaking.local import LocalSpeaker
from client.speaking.mouth import Mouth
from client.speaking.server import Address, ServerSpeaker
from client.speaking.speaker import Bounds, Speaker
from privacy.artefact import Artefact
from privacy.config import ConfigError
from privacy.redaction.redactor import Redactor
from privacy.redaction.settings import profile


class House(Protocol):
    """Be what a mouth needs of a home."""

    base: Base
    threads: int

    @property
    def documents(self) -> Callable[[], Iterable[str | Document]]:
        """Return what reads the documents anew."""

    @property
    def edition(self) -> Callable[[], object]:
        """Return what changes whenever the documents do."""

    @property
    def adapters(self) -> Callable[[str], Artefact]:
        """Return what reads an adapter that was trained at home. Raises: PeerError."""

    def dress(self, artefact: Artefact | None) -> None:
        """Put this adapter alone into the base model, or none."""


def mouth_of(settings: TextSettings, folder: Folder, house: House) -> Mouth:
    """Return the mouth of a home in a folder. Raises: ConfigError for a key that others may read, or none."""
    server = settings.server
    address = None
    if server is not None:
        key = None if server.key is None else _key(folder.root / server.key)
        address = Address(server.url, server.model, key, server.retries, server.stream)
    return home_mouth(settings, house, address)


def home_mouth(settings: TextSettings, house: House, address: Address | None = None) -> Mouth:
    """Return the mouth of a house: the model that writes is the server at `address`, if there is one."""
    bounds = Bounds(settings.most_tokens, settings.timeout_s)
    made: dict[str | None, Speaker] = {}

    def local(name: str | None) -> Speaker:
        if name not in made:
            artefact = None if name is None else house.adapters(name)
            made[name] = LocalSpeaker(View(house.base, lambda: house.dress(artefact), house.threads), bounds)
        return made[name]

    served = None if address is None else ServerSpeaker(address, bounds)
    redaction = replace(profile(settings.redaction), deny=settings.deny)
    return Mouth(
        speaker=lambda: served or local(settings.adapter),
        voters=lambda: tuple(local(name) for name in settings.shards),
        redactor=Redactor(redaction),
        documents=house.documents,
        edition=house.edition,
        notes=settings.notes,
    )


def _key(file: Path) -> str:
    """Return the key in a file. Raises: ConfigError, which says nothing of what is in it."""
    if not file.is_file():
        raise ConfigError(file, "", "expected a file with the key of the text server")
    require_private(file)
    key = file.read_bytes().strip()
    if not re.fullmatch(rb"[!-~]{1,8192}", key):
        raise ConfigError(file, "", "expected one line of visible ASCII: the key of the text server")
    return key.decode("ascii")
