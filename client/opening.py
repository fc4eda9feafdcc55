"""Open a home: read its keys, policy, ledger and shelf, load its model, and put a mailbox in front."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from client.data import documents, edition
from client.folder import Folder
from client.mailbox import SqliteShelf
from client.roster import approved_roster
from client.settings import Settings, require_private
from privacy.config import ConfigError
from privacy.ledger import Ledger
from privacy.policy import Policy
from protocols.catalog import CATALOG
from protocols.keys import Identity, PublicKey
from protocols.post import Mailbox
from protocols.secure_sum.sums import Sums
from protocols.session import MemberId


@dataclass(frozen=True, slots=True)
class Opened:
    """Hold an open home: where its letters go, and what may be said about it."""

    mailbox: Mailbox
    model_digest: str
    shelf: SqliteShelf

    def deliver(self, sealed: bytes, /) -> bytes:
        """Return the sealed answer; for the same letter again, the same bytes."""
        return self.mailbox.deliver(sealed)


def open_home(folder: Folder, settings: Settings) -> Opened:
    """Load everything once. Raises: ConfigError for what the operator can mend."""
    data = settings.data

    def read() -> Iterator[str]:
        return documents(data.path, data.format, data.text_column)

    next(read())  # is it there, and is it text?
    identity, coordinator = identity_of(folder), _coordinator(folder, settings)
    Policy.load(folder.policy)
    shelf, ledger = SqliteShelf(folder.mailbox), _ledger(folder, settings)
    from transformers.utils.logging import disable_progress_bar  # late, like all that loads torch: checks come first

    from client.home import House
    from client.model import load_base

    disable_progress_bar()
    house = House(
        member=MemberId(settings.member),
        base=load_base(settings.model.name),
        documents=read,
        declared=data.declared,
        policy=lambda: Policy.load(folder.policy),
        ledger=ledger,
        dataset=data.account,
        unsafe_seed=settings.unsafe_seed,
        threads=settings.model.threads,
        edition=lambda: edition(data.path),
        identity=str(identity.public),
        roster=lambda: approved_roster(folder),
        sums=Sums(identity, time.time),
    )
    mailbox = Mailbox(house.member, identity, coordinator, CATALOG, house.open, shelf)
    return Opened(mailbox, house.base.digest, shelf)


def identity_of(folder: Folder) -> Identity:
    """Return the member's identity. Raises: ConfigError, also if others may read the key."""
    require_private(folder.identity)
    try:
        return Identity.from_pem(folder.identity.read_bytes())
    except ValueError as wrong:
        raise ConfigError(folder.identity, "", str(wrong)) from None


def _coordinator(folder: Folder, settings: Settings) -> PublicKey:
    try:
        return PublicKey.parse(settings.coordinator.key)
    except ValueError as wrong:
        raise ConfigError(folder.settings, "coordinator.key", str(wrong)) from None


def _ledger(folder: Folder, settings: Settings) -> Ledger:
    file = settings.ledger_in(folder.root)
    if not file.is_file():  # a new one would be a new budget
        raise ConfigError(file, "", "the ledger is missing; what was spent would be forgotten: restore it")
    return Ledger(file)
