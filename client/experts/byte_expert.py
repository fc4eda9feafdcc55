"""Be an expert over bytes, whatever the tokens: how likely each next byte is, summed over all ways to spell it.

    hypothesis      the tokens so far, and a node of the trie: what has been read of the token after them
    next byte       the masses of the nodes' children; where a token may have ended, those of the first bytes after it
    end of text     symbol 256

Exact if every hypothesis is read. A `Beam` reads the few that are likely, counts the others roughly, and gives all
symbols a little for those that were lost, so that none is impossible. When no hypothesis can go on, the text is
tokenised again from a little earlier.

Bytes are all there is here: that a character is not cut in half is for whoever speaks them to see to.
Cites: Vieira et al. 2024 (from token to character language models); Phan et al. 2024; Hayase et al. 2025.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from client.experts.byte_table import byte_table
from client.experts.expert import Recent, RememberingExpert, Rows
from client.experts.prefixes import Prefix, Prefixes, branches
from client.experts.trie import Node, Trie
from client.experts.view import View
from protocols.faults import PeerError

END = 256
SYMBOLS = 257
_LEAST = 1e-12  # of each symbol's probability, so that every logarithm is finite
_AHEAD, _ENTRIES_AHEAD = 32, 2**21  # tokens of a known text that are read in one forward, and entries of their rows
_BACK, _ENTRIES_BACK = 128, 2**22  # places to which a conversation can be taken back, and entries of their rows
_FAINT = 1e-2  # of the least share for which a prefix is read
_LATE = 0.3  # the share of the unread ones, after a symbol, for which they are read: they explain it
_MOST_LONGER = 32  # hypotheses within a token: they cost no forward
_BYTES_A_TOKEN = 4  # of text, about: more than so many times the window is not looked at
_HEALED = 3  # prefixes from which a text is tokenised again


@dataclass(frozen=True, slots=True)
class Beam:
    """Say what is read: where tokens end, the `width` likeliest prefixes that have at least the share `least`.

    What is not read is still counted, as far as it is not faint, and is read later if the next symbol speaks for it.
    """

    width: int = 2
    least: float = 1e-3

    @property
    def enough(self) -> float:
        """Return the logarithm of the least share for which a prefix is read."""
        return math.log(self.least) if self.least > 0 else -math.inf

    @property
    def faint(self) -> float:
        """Return the logarithm of the least share for which a hypothesis is kept at all."""
        return self.enough + math.log(_FAINT)

    @property
    def spread(self) -> float:
        """Return which part of the mass is shared out evenly, against what was not kept."""
        return max(min(self.least / 10, 1e-4), SYMBOLS * _LEAST)


_USUAL = Beam()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """Hold the tokens so far, whose next one is known, and where in the trie the bytes after them lead."""

    prefix: Prefix
    node: Node

    @property
    def weight(self) -> float:
        """Return the logarithm of how likely the prefix is, with one of the node's tokens after it."""
        mass = self.prefix.known.mass(self.node) if self.node.depth else 1.0
        return self.prefix.total + math.log(mass) if mass > 0 else -math.inf


@dataclass(frozen=True, slots=True)
class State:
    """Hold the hypotheses at one place: those that were read, and prefixes that were not, being less likely.

    Shapes:  first (257,), how likely a symbol is after a token's end: as it was after the last ones that were read.
    """

    read: tuple[Hypothesis, ...]
    unread: tuple[Prefix, ...] = ()
    first: NDArray[np.float64] = field(default_factory=lambda: np.full(SYMBOLS, 1 / SYMBOLS), repr=False)


@dataclass(slots=True)
class Conversation:
    """Hold what is known of one text: its prefixes, the hypotheses at its last places, and what is read ahead.

    `ahead` are the tokens of the known text, as its tokenizer cuts it, and `reached` the last that has been read.
    """

    prefixes: Prefixes
    start: State
    states: dict[int, State] = field(default_factory=dict)
    ahead: Sequence[int] = ()
    reached: Prefix | None = None


class ByteExpert(RememberingExpert):
    """Tell how likely each byte is to be the next one, and the end of the text (256), by a model of tokens.

    After an end of text another text begins. Of a context that has more tokens than the model reads at once the
    earlier half is forgotten, so that nothing that `require_room` lets in is refused later. `view.count` counts what
    it took: a token that is read is the distribution after one hypothesis.
    Units:  memory: keys and values of `conversations`, 32 MiB of rows for each, and the table of the vocabulary.
    Raises: ConfigError, when made, for a tokenizer whose tokens' bytes are not known.
    """

    def __init__(self, view: View, trie: Trie | None = None, beam: Beam = _USUAL, conversations: int = 4) -> None:
        super().__init__(SYMBOLS, 2 * conversations)
        self.view, self.beam = view, beam
        self.trie = trie or Trie(byte_table(view.base, view.vocabulary))
        self._most_ahead = min(_AHEAD, max(4, _ENTRIES_AHEAD // view.vocabulary))
        self._most_back = min(_BACK, max(16, _ENTRIES_BACK // view.vocabulary))
        self._recent: Recent[Conversation] = Recent(conversations, 2 * _BYTES_A_TOKEN * view.window)
        self._shares: bool | None = None

    def require_room(self, symbols: int) -> None:
        """Return if so many bytes, of context and drafts together, may be read at once. Raises: PeerError."""
        super().require_room(symbols)
        if symbols > _BYTES_A_TOKEN * self.view.window:
            reads = f"this model reads {_BYTES_A_TOKEN} times its {self.view.window} tokens"
            raise PeerError(f"{symbols} bytes of context and drafts, and {reads}")

    def rows(self, symbols: NDArray[np.int64], first: int) -> Rows:
        """Return the distributions after the first `first` bytes, and so on to after all. Raises: PeerError."""
        self.require_room(symbols.size)
        if self._shares is None:
            self._shares = branches(self.view)
        with self.view.running():
            known, there = self._recent.longest(symbols)
            at = min(known, first)
            if there is None or at not in there.states:
                at, there = 0, self._begun(self._shares)
            self._recent.drop(there)
            self._look_ahead(there, symbols, at)
            found = self._followed(there, symbols, at, first)
        self._recent.keep(symbols.copy(), there)
        return found

    def _begun(self, shares: bool) -> Conversation:
        prefixes = Prefixes(self.view, self.trie, shares=shares)
        prefixes.read([prefixes.root])
        start = Hypothesis(prefixes.root, self.trie.root)
        there = Conversation(prefixes, State((start,), (), self._mass([start], start.weight)))
        for byte in self.trie.table.prefix:
            there.start = self._after(there, there.start, byte)
        there.states[0] = there.start
        return there

    def _followed(self, there: Conversation, symbols: NDArray[np.int64], at: int, first: int) -> Rows:
        """Go on from place `at` to the end, and return the distributions from place `first` on."""
        there.states = {place: state for place, state in there.states.items() if place <= at}
        state, found = there.states[at], np.empty((symbols.size + 1 - first, SYMBOLS))
        for place in range(at, symbols.size + 1):
            if place > at:
                state = self._after(there, state, int(symbols[place - 1]))
                there.states[place] = state
            if place >= first:
                found[place - first] = self._row(state)
            if len(there.states) > 2 * self._most_back:
                self._forget(there, place)
        there.ahead, there.reached = (), None
        self._forget(there, symbols.size)
        return found

    def _forget(self, there: Conversation, place: int) -> None:
        """Keep the states of the last places, and what they and the rest of the known text are made of."""
        there.states = {p: state for p, state in there.states.items() if p > place - self._most_back}
        wanted = [h.prefix for state in (there.start, *there.states.values()) for h in state.read]
        wanted += [prefix for state in there.states.values() for prefix in state.unread]
        read = islice(_upwards(there.reached), self._most_ahead)
        there.prefixes.keep([*wanted, *read])

    def _after(self, there: Conversation, state: State, symbol: int) -> State:
        """Return the hypotheses after one symbol more."""
        if symbol == END:
            return there.start
        alive = self._moved(state.read, symbol)
        late = [prefix.total + math.log(state.first[symbol] + _LEAST) for prefix in state.unread]
        if late and _sum(late) > _sum([h.weight for h in alive] + late) + math.log(_LATE):
            there.prefixes.read(state.unread)  # this symbol makes them likelier than they were
            alive += self._moved([Hypothesis(prefix, self.trie.root) for prefix in state.unread], symbol)
        return self._grown(there, alive or self._healed(there, state.read, symbol), state.first)

    def _moved(self, hypotheses: Sequence[Hypothesis], byte: int) -> list[Hypothesis]:
        moved = ((h.prefix, self.trie.child(h.node, byte)) for h in hypotheses)
        there_still = [Hypothesis(prefix, node) for prefix, node in moved if node is not None]
        return [h for h in there_still if h.weight > -math.inf]

    def _grown(self, there: Conversation, hypotheses: Sequence[Hypothesis], first: NDArray[np.float64]) -> State:
        """Let tokens end where they may, and read what comes after the likeliest of those that ended."""
        longer = [Hypothesis(h.prefix, self.trie.longer(h.node)) for h in hypotheses]
        ended = [there.prefixes.after(h.prefix, place) for h in hypotheses for place in self.trie.own(h.node)]
        longer.sort(key=lambda h: -h.weight)
        ended.sort(key=lambda e: -e.total)
        faint = _sum([*(h.weight for h in longer), *(e.total for e in ended)])
        enough, faint = faint + self.beam.enough, faint + self.beam.faint
        kept = [h for h in longer if h.weight > -math.inf and h.weight >= faint]
        fitting = [e for e in ended if e.total >= faint and self._room(there, e) >= 0]
        if ended and not kept and not fitting:
            fitting = [self._slid(there, ended[0])]
        chosen = [e for e in fitting[: self.beam.width] if e.total >= enough]
        if not kept and not chosen:
            kept, chosen = (kept, fitting[:1]) if fitting else (longer[:1], [])
        self._read(there, chosen)
        begun = [Hypothesis(prefix, self.trie.root) for prefix in chosen]
        unread = tuple(fitting[len(chosen) : len(chosen) + self.beam.width])
        kept = kept[: max(_MOST_LONGER, self.beam.width)]
        return State((*kept, *begun), unread, self._first(begun, first))

    def _first(self, begun: Sequence[Hypothesis], before: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how likely each symbol is after the hypotheses that are at the root, if there are any."""
        return self._mass(begun, _sum([h.weight for h in begun])) if begun else before

    def _row(self, state: State) -> NDArray[np.float64]:
        """Return the logarithms of the next symbol's probabilities, shape (257,)."""
        weights = [*(h.weight for h in state.read), *(prefix.total for prefix in state.unread)]
        whole = _sum(weights)
        told = self._mass(state.read, whole)
        for prefix in state.unread:
            told += math.exp(prefix.total - whole) * state.first
        told = np.maximum(told, 0.0) if told.any() else np.ones(SYMBOLS)
        told /= told.sum()
        return np.log((1 - self.beam.spread) * told + self.beam.spread / SYMBOLS)

    def _mass(self, hypotheses: Sequence[Hypothesis], whole: float) -> NDArray[np.float64]:
        """Return the masses of the next symbols, as shares of `whole`, shape (257,)."""
        told = np.zeros(SYMBOLS)
        for h in hypotheses if whole > -math.inf else ():
            share, row = math.exp(h.prefix.total - whole), h.prefix.known
            told[:END] += share * np.diff(row.sums[self.trie.bounds(h.node)])
            told[END] += share * row.end * (h.node.depth == 0)
        return told

    # -- when no hypothesis can go on --------------------------------------------------------------------------------

    def _healed(self, there: Conversation, state: Sequence[Hypothesis], byte: int) -> list[Hypothesis]:
        """Tokenise the end of the text again, from where the likeliest hypothesis was up to three tokens earlier."""
        likeliest = max(state, key=lambda h: h.weight)
        rest, found = self.trie.spelled(likeliest.node) + bytes([byte]), []
        for anchor in islice(_upwards(likeliest.prefix), _HEALED):
            found.append(self._spelled_on(there, anchor, rest))
            if anchor.parent is not None:
                rest = self.trie.table.tokens[anchor.token] + rest
        return [h for h in found if h.weight > -math.inf] or found[:1]

    def _spelled_on(self, there: Conversation, prefix: Prefix, rest: bytes) -> Hypothesis:
        """Return the prefix with the longest tokens that spell the rest, the last of them perhaps not whole.

        A byte that no token begins with is left out: the model cannot be told of it.
        """
        there.prefixes.read([prefix])
        while (walked := self.trie.walk(rest)).node is None:
            if walked.place is not None:
                prefix = there.prefixes.after(prefix, walked.place)
                prefix = prefix if self._room(there, prefix) >= 0 else self._slid(there, prefix)
                there.prefixes.read([prefix])
            rest = rest[max(1, walked.length) :]
        return Hypothesis(prefix, walked.node)

    # -- when the tokens are more than the model reads at once -------------------------------------------------------

    def _room(self, there: Conversation, prefix: Prefix) -> int:
        """Return how many tokens there is room for after the prefix."""
        return self.view.window - there.prefixes.opened - prefix.depth

    def _slid(self, there: Conversation, prefix: Prefix) -> Prefix:
        """Return the last half of the tokens as a text of its own: what was before them is forgotten."""
        tail = prefix.tokens()[-max(1, self.view.window // 2) :]
        return there.prefixes.chain(there.prefixes.root, tail)

    # -- reading ahead -----------------------------------------------------------------------------------------------

    def _look_ahead(self, there: Conversation, symbols: NDArray[np.int64], at: int) -> None:
        """Cut a known text into tokens as its tokenizer does: these will be asked for, so they are read together.

        It changes which forwards are run, and nothing that they say.
        """
        ends = np.flatnonzero(symbols == END)
        begin = int(ends[-1]) + 1 if ends.size else 0
        if symbols.size - max(at, begin) < 4:
            return
        spelled = bytes(symbols[begin:].astype(np.uint8))
        text = spelled.decode("utf-8", errors="ignore")
        tokens = self.view.base.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if self.trie.table.joined(tokens) != self.trie.table.prefix + spelled:
            return
        there.ahead, here = tokens, there.prefixes.root
        for token in tokens:
            if (child := here.children.get(token)) is None or child.row is None:
                break
            here = child
        there.reached = here

    def _read(self, there: Conversation, prefixes: Sequence[Prefix]) -> None:
        """Read these, and with the one that the known text goes on with, what follows it there."""
        reached = there.reached
        if reached is not None and reached.depth < len(there.ahead):
            room = min(self._most_ahead, self._room(there, reached))
            following = there.ahead[reached.depth : reached.depth + room]
            if following and any(prefix.parent is reached and prefix.token == following[0] for prefix in prefixes):
                there.reached = there.prefixes.chain(reached, following)
        there.prefixes.read(prefixes)


def _upwards(prefix: Prefix | None) -> Iterator[Prefix]:
    while prefix is not None:
        yield prefix
        prefix = prefix.parent


def _sum(logs: Sequence[float]) -> float:
    """Return the logarithm of the sum of what these are the logarithms of."""
    most = max(logs, default=-math.inf)
    return most + math.log(sum(math.exp(log - most) for log in logs)) if most > -math.inf else most
