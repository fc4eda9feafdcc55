"""Raise the members of a world of facts in one process, each with its own model, and hear all that crosses.

Their homes are real, but for the walls between them; so are gates, ledgers, redactors and letters. What crosses is
searched for what was planted, letter by letter, both ways.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgpack

from client.asker import COLLABORATION as ASK
from client.asker import Asker
from client.declared import declare
from client.home import House
from client.model import Base
from client.settings import TextSettings
from client.speaking.concluding import Concluded, Concluding
from client.speaking.opening import home_mouth
from client.vault import Vaults
from privacy.ledger import Ledger
from privacy.policy import Budget, Permission, Policy
from privacy.redaction.redactor import Redactor
from privacy.redaction.settings import Settings as Redaction
from privacy.units import Level
from protocols import stream
from protocols.carriers.memory import MemoryRoad
from protocols.catalog import CATALOG
from protocols.keys import Identity
from protocols.post import SIGNATURE
from protocols.session import MemberId, drive
from protocols.wire import Message
from simulations.facts.world import Share
from simulations.talks import Consultation, consulted
from simulations.village import Village, moved_in

_LONG = 6  # characters: what so many random bytes do not spell
_NONE = Redaction(name="none", entities=())  # for comparison: what redaction costs, and what it keeps at home


@dataclass
class Heard:
    """Count the letters that crossed, and those in which something planted was.

    All texts of a letter are looked through, and all its bytes, but those for short names: keys and masked words are
    random, and three letters stand in them by chance.
    """

    planted: tuple[str, ...]
    letters: int = 0
    leaks: int = 0
    leaked: set[str] = field(default_factory=set)

    def hear(self, letter: bytes) -> bytes:
        """Look through a letter."""
        self.letters += 1
        texts = "\n".join(_texts(letter[SIGNATURE:]))
        long = {p for p in self.planted if len(p) >= _LONG}
        found = {p for p in self.planted if p in texts} | {p for p in long if p.encode() in letter}
        self.leaks += bool(found)
        self.leaked |= found
        return letter


@dataclass(frozen=True, slots=True)
class Hall:
    """Hold the members, and what was heard of them."""

    village: Village
    heard: Heard
    folder: Path

    def ask(self, asker_name: MemberId, question: str, wishes: Consultation) -> Concluded:
        """Return what the members make of a question of one of them, by the wished collaboration, at its home."""
        house, members = self.village.villagers[asker_name].house, self.village.members
        asker = Asker(
            house, str(self.village.coordinator.public), self.folder, Vaults(self.folder / asker_name / "vaults")
        )

        def carry(task: Message) -> Message:
            entry, session = CATALOG[wishes.collaboration], secrets.token_hex(16)
            outbox = self.village.outbox(session, wishes.collaboration, MemoryRoad(self._ends()))
            try:
                return drive(entry.coordinate(members, task), outbox, entry.wire)
            finally:
                outbox.close()

        return consulted(asker, question, wishes, members, carry).concluded

    def alone(self, member: MemberId, question: str) -> str:
        """Return what one member's own model answers."""
        mouth = self.village.villagers[member].house.mouth
        assert mouth is not None  # noqa: S101  each was given one
        return Concluding(mouth, str).answer(question)

    def choice(self, member: MemberId, question: str, options: Sequence[str]) -> str:
        """Return which of the options one member's own model holds right."""
        mouth = self.village.villagers[member].house.mouth
        assert mouth is not None  # noqa: S101  each was given one
        return Concluding(mouth, str).choose(question, options)

    def close(self) -> None:
        """Close the ledgers."""
        self.village.close()

    def _ends(self) -> Mapping[MemberId, Callable[[bytes], bytes]]:
        def tapped(deliver: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
            return lambda letter: self.heard.hear(deliver(self.heard.hear(letter)))

        return {member: tapped(villager.deliver) for member, villager in self.village.villagers.items()}


def raise_hall(
    shares: Sequence[Share],
    bases: Mapping[str, Base],
    folder: Path,
    *,
    redacted: bool,
    notes: int = 0,
    epsilon: float = 1.0,
    coordinator: Identity | None = None,
) -> Hall:
    """Build every member on its own model and notes, with a budget; unless `redacted`, texts cross as they are.

    With a question a model is shown that many of its home's `notes`.
    """
    coordinator = coordinator or Identity.generate()
    names = (ASK, *(c.name for c in CATALOG.values() if c.level is Level.TEXT))
    permission = Permission(
        str(coordinator.public), Level.TEXT, names, smallest_crowd=3, unsafe_without_noise=True,
        redaction="default" if redacted else "", unsafe_unredacted_text=not redacted,
    )  # fmt: skip
    dials = replace(permission, level=Level.LOGITS, collaborations=(stream.NAME,), redaction="")
    policy = Policy(1, Budget(epsilon, 1e-5, disclosures=10**6), (permission, dials))
    houses = {MemberId(s.member): _house(s, bases[s.member], folder / s.member, policy) for s in shares}
    for house in houses.values():
        house.mouth = home_mouth(TextSettings(notes=notes, most_tokens=48), house)
        if not redacted:
            house.mouth.redactor = Redactor(_NONE)
    planted = {text for share in shares for author in share.authors for text in author.planted}
    return Hall(moved_in(houses, coordinator, folder), Heard(tuple(sorted(planted))), folder)


def _texts(packed: bytes) -> Iterator[str]:
    """Yield all texts in what crossed, also of messages within messages."""
    try:
        tree = msgpack.unpackb(packed, raw=False)
    except (ValueError, msgpack.UnpackException):
        return
    left = [tree]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left += part
        elif isinstance(part, str):
            yield part
        elif isinstance(part, bytes):
            yield from _texts(part)


def _house(share: Share, base: Base, folder: Path, policy: Policy) -> House:
    folder.mkdir(parents=True)
    return House(
        member=MemberId(share.member),
        base=base,
        documents=lambda: share.notes,
        declared=declare(share.notes, base.tokenizer),
        policy=lambda: policy,
        ledger=Ledger(folder / "ledger.db", durable=False),
        dataset=f"notes of {share.member}",
    )
