"""Ask others as a member, at its own home: the home lets the prompt go, and what its own models say stays here.

    prompt ──▶ redacted by the profile that the policy names ──▶ the gate: text is told apart ──▶ the others
    answer ──▶ drawn from the others' sum and the home's own models; its symbols are shown to the others as it grows,
               so the gate lets them go first: derived, if training has paid for the models, else told apart

In `policy.toml` both go under the collaboration `ask`: the prompt at the level text, the answer at the level logits.

Learns:  the coordinator and who is asked: the redacted prompt; of the home's models what an answer's symbols tell.
Trusts:  the redactor, as far as it goes; and that the public model here is the one that the others have.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from client.experts.opening import Experts
from client.folder import Folder
from client.home import House
from client.opening import coordinator_of, open_house
from client.settings import Settings
from client.vault import Vaults
from client.visit import Visit
from privacy.artefact import Artefact
from privacy.config import ConfigError
from privacy.gate import Disclosed, Released
from privacy.occasion import Occasion
from privacy.randomness import Randomness
from privacy.redaction.redacted import Redacted
from privacy.redaction.redactor import Redactor
from privacy.redaction.settings import PROFILES
from privacy.redaction.settings import Settings as Redaction
from privacy.redaction.settings import profile as settings_of
from privacy.redaction.spans import Unreadable
from privacy.redaction.vault import Vault, VaultFull
from privacy.refusal import Refused
from privacy.units import Level
from protocols.faults import PeerError

COLLABORATION = "ask"
_PROMPT, _ANSWER = 0, 1  # numbers within the session, on which the ledger writes them down


@dataclass(frozen=True, slots=True)
class AskVisit(Visit):
    """Be the visit of the home's own operator, who asks others."""

    def prompt(self, redacted: Redacted) -> Disclosed[str]:
        """Let a prompt go. Raises: Refused."""
        return self.gate.pass_on(redacted, self.account, self.occasion, _text)

    def answer(self, artefact: Artefact | None) -> Released[None] | Disclosed[None]:
        """Let the symbols of one answer go, which are drawn from this home's own models, too. Raises: Refused."""
        if artefact is not None and self.gate.ledger.was_charged(artefact.digest):
            return self.gate.derive(_Symbols(artefact), self.account, self.occasion)
        return self.gate.disclose(_Words(), self.account, self.occasion)


@dataclass
class Asker:
    """Ask with this home; its models are those that it also answers others with.

    Raises: ConfigError, from each method, for what the policy or the redactor does not let go.
    """

    house: House
    partner: str
    policy_file: Path
    vaults: Vaults | None = None
    _session: str = field(default="", init=False, repr=False)
    _redactors: dict[str, Redactor] = field(default_factory=dict, init=False, repr=False)

    def experts(self, *, by_bytes: bool) -> Experts:
        """Return the home's models, which are to be mixed in. Raises: ConfigError."""
        try:
            return self.house.experts(by_bytes=by_bytes)
        except PeerError as wrong:
            raise ConfigError(self.policy_file.with_name("home.toml"), "expert", str(wrong)) from None

    def let_go(self, prompt: str, members: Sequence[str], purpose: str = "") -> str:
        """Begin a new session: return what may cross of its prompt, written down. Raises: ConfigError."""
        self._session = f"{COLLABORATION}/{secrets.token_hex(16)}"  # the ledger counts a session's letter once
        visit = self._visit(Level.TEXT, _PROMPT, members, purpose)
        with self._refusing(), self._vault() as vault:
            permission = visit.gate.policy.permission(visit.occasion)
            plain = permission.unsafe_unredacted_text
            redacted = self._redactor(permission.redaction, plain=plain).redact(prompt, vault)
            return visit.prompt(redacted).value

    def let_answer_go(self, experts: Experts, members: Sequence[str], purpose: str = "") -> None:
        """Write down that the symbols of the answer to it leave. Raises: ConfigError."""
        visit = self._visit(Level.LOGITS, _ANSWER, members, purpose)
        with self._refusing():
            visit.answer(experts.artefact)

    def restored(self, text: str) -> str:
        """Return an answer with what its tokens stand for, as far as this home gave them."""
        if self.vaults is None:
            return text
        with self.vaults.open(self.partner) as vault:
            return vault.restore(text)

    def _visit(self, level: Level, number: int, members: Sequence[str], purpose: str) -> AskVisit:
        crowd = len({*members, self.house.member})
        occasion = Occasion(self._session, number, COLLABORATION, level, self.partner, crowd, tuple(members))
        return self.house.at_home(replace(occasion, purpose=purpose), AskVisit)

    def _redactor(self, profile: str, *, plain: bool) -> Redactor:
        """Return what redacts by a policy's profile; by none, where it lets text leave as it is."""
        if plain:
            return Redactor(Redaction(name="none", entities=()))
        if profile not in PROFILES:
            expected = f"one of {', '.join(PROFILES)}, which is what a prompt is redacted by"
            raise ConfigError(self.policy_file, "allow.redaction", f"expected {expected}")
        if profile not in self._redactors:
            self._redactors[profile] = Redactor(settings_of(profile))
        return self._redactors[profile]

    @contextmanager
    def _vault(self) -> Iterator[Vault]:
        if self.vaults is None:
            yield Vault(self.partner)
            return
        with self.vaults.open(self.partner) as vault:
            yield vault

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except Refused as no:
            raise ConfigError(self.policy_file, f"allow, collaboration {COLLABORATION}", str(no)) from None
        except (Unreadable, VaultFull) as wrong:
            raise ConfigError("parley", "the prompt", str(wrong)) from None


@contextmanager
def asking_at(home: Path) -> Iterator[Asker]:
    """Open the home in this folder for asking, while its daemon may be up. Raises: ConfigError."""
    folder = Folder(home.absolute())
    settings = Settings.load(folder.settings)
    partner = str(coordinator_of(folder, settings))
    house, shelf = open_house(folder, settings)
    try:
        yield Asker(house, partner, folder.policy, Vaults(folder.vaults))
    finally:
        house.close()
        shelf.close()


def _text(redacted: Redacted) -> str:
    return redacted.text


@dataclass(frozen=True, slots=True)
class _Symbols:
    artefact: Artefact

    def draw(self, _randomness: Randomness) -> None:
        """Return nothing: the symbols are drawn one by one, once they may be."""


@dataclass(frozen=True, slots=True)
class _Words:
    def draw(self, _randomness: Randomness) -> None:
        """Return nothing: the symbols are drawn one by one, once they may be."""
