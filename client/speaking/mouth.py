"""Be what a home says in words: its model, its models that vote, its notes, its redactor, and a vault a session.

A session's tokens are numbered from a place of this member's own, drawn anew for each session: two members who write
into one talk do not give the same token, and no token links two sessions. They are kept in memory alone, and are put
back nowhere: what a partner hears of them says who is who within one talk, and nothing else.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from client.documents import Document, text_of
from client.speaking.notes import Notes
from client.speaking.speaker import Speaker
from privacy.redaction.redacted import Redacted
from privacy.redaction.redactor import Redactor
from privacy.redaction.vault import MOST_THINGS, Vault, named_in

_SESSIONS = 64  # whose vaults are kept; who has more talks at once gets new numbers
_PLACES = 400


@dataclass
class Mouth:
    """Hold what makes texts leave a home. `voters` are models on disjoint shards of the records, if it has several.

    At most `notes` of the home's documents, which `documents` reads anew, are shown to the model with a question.
    `edition` changes whenever they do.
    """

    speaker: Callable[[], Speaker]
    voters: Callable[[], tuple[Speaker, ...]]
    redactor: Redactor
    documents: Callable[[], Iterable[str | Document]]
    edition: Callable[[], object]
    notes: int = 0
    _vaults: dict[str, Vault] = field(default_factory=dict, init=False, repr=False)
    _known: tuple[object, Notes] | None = field(default=None, init=False, repr=False)

    @property
    def profile(self) -> str:
        """Return the name of the settings that redact here."""
        return self.redactor.settings.name

    def near(self, question: str) -> tuple[str, ...]:
        """Return the home's own documents that bear on a question."""
        if not self.notes:
            return ()
        edition = self.edition()
        if self._known is None or self._known[0] != edition:
            self._known = edition, Notes([text_of(d) for d in self.documents()])
        return self._known[1].near(question, self.notes)

    def redact(self, text: str, session: str, place: int, heard: Iterable[str], longest: int) -> Redacted:
        """Return a text as it may leave in this session; the tokens in what was `heard` stay as they are.

        `place` is this member's in the session's list, by which its tokens are numbered. Raises: Unreadable.
        """
        given = {name for part in heard for _, _, name in named_in(part)}
        vault = self._vault(session, place)
        return self.redactor.redact(text, vault, given, longest)

    def leave(self, session: str) -> None:
        """Forget what tokens stood for in a session."""
        self._vaults.pop(session, None)

    def _vault(self, session: str, place: int) -> Vault:
        if session not in self._vaults:
            first = 2 * MOST_THINGS * (1 + place % _PLACES) + secrets.randbelow(MOST_THINGS)
            self._vaults[session] = Vault(session, first=first)
        self._vaults[session] = vault = self._vaults.pop(session)  # the last one that was used is the last to go
        for oldest in list(self._vaults)[:-_SESSIONS]:
            del self._vaults[oldest]
        return vault
