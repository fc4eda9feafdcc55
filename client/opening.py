"""Open a home: read its keys, policy, ledger and shelf, load its model, and put a mailbox in front."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from client.daemon import Submit
from client.data import edition
from client.data import read as read_data
from client.documents import Document
from client.folder import Folder
from client.mailbox import SqliteShelf
from client.roster import approved_roster
from client.settings import Settings, require_private
from client.state import FolderStates
from client.stream import Hub, Streams
from client.training.ways import Checkpointing
from privacy.config import ConfigError
from privacy.ledger import Ledger
from privacy.policy import Policy
from privacy.refusal import LedgerUnavailable, RolledBack
from privacy.trail import SignedHead
from protocols.catalog import CATALOG
from protocols.faults import LocalError
from protocols.keys import Identity, PublicKey
from protocols.post import Mailbox
from protocols.roster import Roster
from protocols.secure_sum.sums import Sums
from protocols.session import MemberId

if TYPE_CHECKING:
    from client.home import House
    from client.model import Base
    from client.training.running import Running


@dataclass(frozen=True, slots=True)
class Opened:
    """Hold an open home: where its letters go, and what may be said about it."""

    mailbox: Mailbox
    model_digest: str
    shelf: SqliteShelf
    house: House
    hub: Hub

    def deliver(self, sealed: bytes, /) -> bytes:
        """Return the sealed answer; for the same letter again, the same bytes."""
        return self.mailbox.deliver(sealed)

    def answer_by(self, submit: Submit, /) -> None:
        """Let this home dial streams, whose letters go to `submit`."""
        mailbox = self.mailbox
        self.house.dial = Streams(self.hub, mailbox.me, mailbox.identity, submit).dial

    def rest(self) -> None:
        """Do what can wait until an answer is on its way."""
        self.house.rest()


def open_home(folder: Folder, settings: Settings) -> Opened:
    """Load everything once. Raises: ConfigError for what the operator can mend."""
    _require_adapters(folder, settings)
    house, shelf = open_house(folder, settings)
    identity, coordinator = identity_of(folder), coordinator_of(folder, settings)
    evidence = replace(house.evidence(identity), remember=lambda head: shelf.remember(head.to_json()))
    mailbox = Mailbox(house.member, identity, coordinator, CATALOG, house.open, shelf, evidence)
    return Opened(mailbox, house.base.digest, shelf, house, Hub(settings.coordinator.address, folder.ca, coordinator))


def open_house(folder: Folder, settings: Settings) -> tuple[House, SqliteShelf]:
    """Load what is in a home, without a door, and its shelf. Raises: ConfigError for what the operator can mend."""
    data, model, own = settings.data, settings.model, settings.personal

    def read() -> Iterator[Document]:
        return read_data(data.path, data.format, data.columns)

    next(d for d in read() if d.text.strip())  # is it there, and is it text?
    identity = identity_of(folder)
    coordinator_of(folder, settings)
    Policy.load(folder.policy)
    shelf, ledger = SqliteShelf(folder.mailbox), _ledger(folder, settings)
    _require_newest(folder, shelf, ledger)
    _require_totals(folder, settings, ledger)
    notes = _Notes(ledger, settings.member)
    notes.note("started")
    from transformers.utils.logging import disable_progress_bar  # late, like all that loads torch: checks come first

    from client.artefacts import read_artefact
    from client.home import House
    from client.model import load_base
    from client.personal import Personal

    disable_progress_bar()
    base = load_base(model.name, dtype=model.dtype.value, bits=model.bits)
    house = House(
        member=MemberId(settings.member),
        base=base,
        documents=read,
        declared=data.declared,
        policy=lambda: notes.policy(folder),
        ledger=ledger,
        dataset=data.account,
        unsafe_seed=settings.unsafe_seed,
        threads=model.threads,
        edition=lambda: edition(data.path),
        identity=str(identity.public),
        roster=lambda: notes.roster(folder),
        sums=Sums(identity, time.time),
        adapters=lambda name: read_artefact(folder.adapters, name),
        most_rank=settings.lora.most_rank,
        running=_running(folder, settings, base),
        states=FolderStates(folder.state),
        validation=data.validation,
        personal=None if own is None else Personal(own, folder.personal, settings.member),
        expert=settings.expert,
    )
    _give_mouth(folder, settings, house)
    return house, shelf


def _give_mouth(folder: Folder, settings: Settings, house: House) -> None:
    """Let the house write and vote, if its settings say by what. Raises: ConfigError."""
    if settings.text is not None:
        from client.speaking.opening import mouth_of

        house.mouth = mouth_of(settings.text, folder, house)


def _running(folder: Folder, settings: Settings, base: Base) -> Running:
    """Return how the model is run when it trains. Raises: ConfigError if this one cannot be."""
    from client.training.running import Running, again

    asked = settings.training
    if asked.checkpointing is not Checkpointing.OFF:
        try:
            again(base.model)
        except LocalError as wrong:  # found in the middle of a round it would have been charged
            raise ConfigError(folder.settings, "training.checkpointing", str(wrong)) from None
    return Running(asked.checkpointing, asked.precision)


@dataclass(slots=True)
class _Notes:
    """Read what the operator has decided, and put its digest into the trail whenever it is another one."""

    ledger: Ledger
    member: str
    seen: dict[str, str] = field(default_factory=dict)

    def policy(self, folder: Folder) -> Policy:
        """Return the policy as it is now. Raises: ConfigError."""
        policy = Policy.load(folder.policy)
        self.note("policy", hashlib.sha256(folder.policy.read_bytes()).hexdigest())
        return policy

    def roster(self, folder: Folder) -> Roster:
        """Return the roster as it is approved now. Raises: ConfigError, RosterNotApproved."""
        roster = approved_roster(folder)
        self.note("roster", roster.digest)
        return roster

    def note(self, kind: str, digest: str = "") -> None:
        """Write a line, unless the last one of its kind said the same."""
        if self.seen.get(kind) != digest:
            self.ledger.note(kind, {"member": self.member, "digest": digest or None})
            self.seen[kind] = digest


def identity_of(folder: Folder) -> Identity:
    """Return the member's identity. Raises: ConfigError, also if others may read the key."""
    require_private(folder.identity)
    try:
        return Identity.from_pem(folder.identity.read_bytes())
    except ValueError as wrong:
        raise ConfigError(folder.identity, "", str(wrong)) from None


def _require_newest(folder: Folder, shelf: SqliteShelf, ledger: Ledger) -> None:
    """Refuse to open on a ledger that is older than what left on its word. Raises: ConfigError."""
    remembered = shelf.remembered()
    if remembered is None:
        return
    try:
        ledger.require_head(SignedHead.from_json(remembered).head)
    except (RolledBack, ValueError):
        raise ConfigError(
            folder.mailbox, "", "the ledger is older than the last answer here, or another: restore its newest copy"
        ) from None


def _require_totals(folder: Folder, settings: Settings, ledger: Ledger) -> None:
    """Refuse to open on a ledger whose budgets or sums somebody has changed. Raises: ConfigError."""
    try:
        wrong = ledger.contradiction()
    except LedgerUnavailable as broken:
        wrong = str(broken)
    if wrong:
        raise ConfigError(settings.ledger_in(folder.root), "", f"{wrong}: restore it, and find out who")


def coordinator_of(folder: Folder, settings: Settings) -> PublicKey:
    """Return the key of the coordinator that this home answers. Raises: ConfigError."""
    try:
        return PublicKey.parse(settings.coordinator.key)
    except ValueError as wrong:
        raise ConfigError(folder.settings, "coordinator.key", str(wrong)) from None


def _require_adapters(folder: Folder, settings: Settings) -> None:
    """Refuse to come up without the adapters that letters will ask for; they are read when one does."""
    named = {"expert.adapters": settings.expert.adapters if settings.expert else ()}
    named["text"] = settings.text.adapters if settings.text else ()
    for key, name in ((key, name) for key, names in named.items() for name in names):
        if not (folder.adapters / name).is_dir():
            raise ConfigError(folder.settings, key, f"there is no adapter {name}: parley member train makes it")


def _ledger(folder: Folder, settings: Settings) -> Ledger:
    file = settings.ledger_in(folder.root)
    if not file.is_file():  # a new one would be a new budget
        raise ConfigError(file, "", "the ledger is missing; what was spent would be forgotten: restore it")
    return Ledger(file)
