"""A program: the member's real daemon, mailbox and shelf around a tiny collaboration that echoes.

    python echo_daemon.py SOCKETS SHELF IDENTITY COORDINATOR_KEY [LARGEST_FILE]

SOCKETS is a folder, which gets the page's port and token, too. With LARGEST_FILE bytes no file may grow beyond it,
as on a disk that is full.

`Say("boom ...")` raises with the words in the exception; `Say("sleep N")` takes N seconds; `Say("refuse N")` is
refused after N seconds; `Say("fill")` finds the disk full. The answer to anything else holds random bytes, so that a
second answer could not be the first by chance.
"""

import resource
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from client.ledger_view import Seen
from client.mailbox import SqliteShelf
from client.quiet import LOG, log_quietly
from client.serve import listen, offer_page, run
from client.window import Sights
from privacy.evidence import Evidence
from privacy.gate import Cleared, Gate
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.refusal import BudgetExceeded
from privacy.trail import HEAD_LABEL
from privacy.units import Level
from protocols.catalog import Collaboration, Stage
from protocols.keys import Identity, PublicKey
from protocols.post import Mailbox
from protocols.session import MemberId
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Say(Message):
    words: str


@dataclass(frozen=True, slots=True)
class Said(Message):
    words: str
    salt: bytes
    nth: int


@dataclass(frozen=True, slots=True)
class Listening(Message):
    heard: int

    def answer(self, ask: Message, home: "Room") -> "tuple[Listening, Cleared[Said]]":
        assert isinstance(ask, Say)
        match ask.words.split():
            case ["boom", *_]:
                try:
                    raise ValueError(ask.words)
                except ValueError as first:
                    raise RuntimeError(f"could not echo {ask.words}") from first
            case ["sleep", seconds]:
                time.sleep(float(seconds))
            case ["refuse", *seconds]:
                time.sleep(float(*seconds))
                raise BudgetExceeded("the budget is spent")
            case ["fill"]:
                raise SystemExit(ask.words)
        return Listening(self.heard + 1), home.say(lambda: Said(ask.words, secrets.token_bytes(16), self.heard + 1))


@dataclass(frozen=True)
class Room:
    """What an echo may use: a real gate and a real ledger."""

    gate: Gate
    occasion: Occasion

    def say(self, make):
        return self.gate.say(make, Account("echoes", self.gate.policy.budget), self.occasion)


ECHO = Collaboration(
    "echo",
    Level.TEXT,
    Stage.INFERENCE,
    Wire(Say, Said),
    Wire(Listening),
    Listening(0),
    lambda members, task: iter(()),  # type: ignore[arg-type, return-value]
)


def main() -> None:
    """Serve until SIGTERM."""
    sockets, shelf, identity_file, coordinator = sys.argv[1:5]
    identity = Identity.from_pem(Path(identity_file).read_bytes())
    log_quietly()

    def open_home() -> Mailbox:
        if len(sys.argv) > 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[5]), int(sys.argv[5])))
        permission = Permission(coordinator, Level.TEXT, ("echo",))
        ledger = Ledger(Path(shelf).with_name("echo-ledger.db"))
        gate = Gate(Policy(1, Budget(1.0, 1e-5), (permission,)), ledger, SystemRandomness())
        return Mailbox(
            MemberId("clinic"),
            identity,
            PublicKey.parse(coordinator),
            {"echo": ECHO},
            lambda occasion: Room(gate, occasion),
            SqliteShelf(Path(shelf)),
            Evidence(ledger, lambda head: identity.sign(HEAD_LABEL, head), str(identity.public)),
        )

    LOG.info("serving")
    letters, operator = (listen(Path(sockets, name), None) for name in ("daemon.sock", "operator.sock"))
    nothing = Seen((), (), (), 0)
    page = offer_page(Path("home.toml"), Path(sockets, "page.token"), 0)
    Path(sockets, "page.port").write_text(str(page.listener.getsockname()[1]))
    sys.exit(run(open_home, Sights(lambda: {"member": "clinic"}, lambda: nothing), letters, operator, page))


if __name__ == "__main__":
    main()
