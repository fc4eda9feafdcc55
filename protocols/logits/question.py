"""State publicly what members are asked at every position: the same for all of them, and in every mask's context.

One position is one next symbol. At each, a member's own models (its experts) add a few bounded numbers over symbols
that are known to all beforehand; only their sum over all experts of all members is ever seen. Raw logits are never
added up: their sums would span the models' output spaces.
"""

import math
from dataclasses import dataclass
from enum import Enum

from privacy.fixed_point import FixedPoint, sized
from privacy.units import Unit
from protocols.plans import plan_of
from protocols.secure_sum.terms import Terms
from protocols.wire import Message

BYTES = 257  # symbols: 256 bytes, and 256 for the end of the text
BITS = 24  # of a word in a sum, unless its terms say others: a step of three members' mixture is 3e-6 of a weight
_MOST_SYMBOLS = 2**22
_MOST_POSITIONS = 2**20
_MOST_ENTRIES = 2**26  # of all symbols at all positions of one sum: 512 MiB of an expert's rows


class Alphabet(Enum):
    """Name what a symbol is: a token of the public model's vocabulary, or a byte, which all tokenizers share."""

    TOKENS = "tokens"
    BYTES = "bytes"


class Sends(Enum):
    """Name what one expert adds at one position, over its K symbols.

    WEIGHTED: w p and then w, where w says how well it has predicted the context so far (K + 1 entries).
    RATIOS: log p - log p0, clipped (K entries). MIXED: its distribution, mixed with the public one until it is near
    to it, and then 1 (K + 1 entries). VOTES: 1 at one symbol, drawn by common public randomness (K entries).
    """

    WEIGHTED = "weighted"
    RATIOS = "ratios"
    MIXED = "mixed"
    VOTES = "votes"


@dataclass(frozen=True, slots=True)
class Question(Message):
    """State by which public terms positions are asked, for a whole session.

    Shapes:  `symbols` in the alphabet; `support` of them in each position's sum, named by the ask, or 0 for all; at
             most `block` positions in one sum, and `most` in the session.
    Units:   `weight_bound` B: weights are from exp(-B) to exp(B); `decay` g of what a symbol long ago still counts;
             `clip` in nats, or, where there is noise, in L2 over a position's symbols; without noise ratios are
             rounded to multiples of `grain` nats, 0 for as they are, and cut off at (lean - 1) clip and at
             (lean + 1) clip: what is likelier than the public model says may have more room than what is not;
             `strength` lambda and `temperature` tau of the product; `experts` N of all members together, the public
             divisor; `plausible` a share of the likeliest symbol's probability; `noise_multiplier` of one position's
             sum, in its L2 bound; `order` alpha and `radius` beta of PMixED: divergences of that order are at most
             alpha beta; `seed` of the votes' common randomness.
    `central` says that the coordinator draws the protecting randomness: it sees the sums as they are, and shows
    nobody more than one sample for each position.
    """

    base: str
    alphabet: Alphabet
    symbols: int
    support: int
    block: int
    most: int
    sends: Sends
    unit: Unit = Unit.RECORD
    experts: int = 1
    weight_bound: float = 2.0
    decay: float = 0.9
    clip: float = 4.0
    lean: float = 0.0
    grain: float = 1 / 32
    strength: float = 1.0
    temperature: float = 1.0
    plausible: float = 0.0
    noise_multiplier: float | None = None
    central: bool = False
    order: float = 3.0
    radius: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.symbols <= _MOST_SYMBOLS:
            raise ValueError(f"symbols: expected 2 to {_MOST_SYMBOLS}")
        if self.alphabet is Alphabet.BYTES and self.symbols != BYTES:
            raise ValueError(f"symbols: expected {BYTES} where they are bytes")
        if not (self.support == 0 or 2 <= self.support <= self.symbols):
            raise ValueError("support: expected 0, or from 2 to the number of symbols")
        if not 1 <= self.block <= self.most <= _MOST_POSITIONS:
            raise ValueError(f"block, most: expected 1 <= block <= most <= {_MOST_POSITIONS}")
        if self.block > most_at_once(self.symbols):
            raise ValueError(f"block: expected at most {most_at_once(self.symbols)} of so many symbols")
        if not 1 <= self.experts <= 10**6 or not 0 <= self.seed < 2**63:
            raise ValueError("experts or seed out of range")
        self._check_scales()
        self._check_noise()

    def _check_scales(self) -> None:
        ranges = {
            "weight_bound": (0.0, 20.0),
            "decay": (0.0, 1.0),
            "clip": (1e-3, 100.0),
            "lean": (-1.0, 1.0),
            "grain": (0.0, self.clip),
            "strength": (1e-3, 1000.0),
            "temperature": (1e-2, 100.0),
            "plausible": (0.0, 1.0),
        }
        for name, (least, most) in ranges.items():
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected a number from {least:g} to {most:g}")

    def _check_noise(self) -> None:
        noise, kind = self.noise_multiplier, self.sends
        if noise is not None and not 0 < noise < 1e6:
            raise ValueError("noise_multiplier: expected a number above 0 and below 1,000,000")
        if noise is not None and (self.central or kind not in (Sends.RATIOS, Sends.VOTES)):
            raise ValueError("noise_multiplier: expected with ratios or votes, and where the coordinator draws none")
        if noise is not None and self.lean:
            raise ValueError("lean: expected 0 where there is noise, whose norm bounds ratios of both signs alike")
        if kind is Sends.VOTES and noise is None:
            raise ValueError("noise_multiplier: expected where votes are counted")
        if self.central and kind not in (Sends.RATIOS, Sends.MIXED):
            raise ValueError("central: expected with ratios, or with mixed distributions")
        if kind is Sends.MIXED and not self.central:
            raise ValueError("central: expected where distributions are mixed to be sampled from")
        if kind is Sends.MIXED and not (self.experts >= 2 and 1.05 <= self.order <= 1024 and 0 < self.radius < 100):
            raise ValueError("experts, order, radius: expected at least 2, from 1.05 to 1024, and a positive number")

    @property
    def named(self) -> int:
        """Return K: over how many symbols a position's sum is."""
        return self.support or self.symbols

    @property
    def shift(self) -> float:
        """Return a: half of the range of what one expert's clipped ratio adds to the logarithm that is sampled from.

        In nats. Whatever the lean, 0 is within the range: what a symbol has that is not in the sum, or of nobody.
        """
        return self.clip * self.strength / (self.experts * self.temperature)

    @property
    def width(self) -> int:
        """Return how many entries one position has."""
        return self.named + (self.sends in (Sends.WEIGHTED, Sends.MIXED))

    def entries(self, positions: int) -> int:
        """Return how many entries a sum over so many positions has: row after row, one for each position."""
        return positions * self.width

    def spec(self, terms: Terms, members: int, positions: int) -> FixedPoint:
        """Return how one expert's entries become words, where `members` add up those of all experts.

        With noise its L2 norm is bounded position by position, and so over all of them by sqrt(positions) as much.
        What is sampled from takes half of a word's range, for `sampling.folded`.
        Raises:  ValueError if the words are too narrow.
        """
        vectors = 2 * max(self.experts, members) if self.central else self.experts
        size = {"length": self.entries(positions), "bits": terms.bits, "members": members, "vectors": vectors}
        ratio = self.clip * (1 + abs(self.lean))
        bound = {Sends.WEIGHTED: math.exp(self.weight_bound), Sends.RATIOS: ratio}.get(self.sends, 1.0)
        if self.noise_multiplier is None:
            code = sized(coordinate=bound, **size)
            if self.sends is Sends.MIXED and code.scale < 2 * (self.named + 1):
                raise ValueError("words too narrow for a step at each symbol of a distribution")
            return code
        root = math.sqrt(positions)
        noise = self.noise_multiplier / root
        return sized(coordinate=bound, norm=bound * root, noise_multiplier=noise, honest=terms.honest, **size)

    @property
    def plan(self) -> str:
        """Return the question as canonical JSON, for whoever approves or audits it."""
        return plan_of(self)


def most_at_once(symbols: int) -> int:
    """Return at how many positions one sum may be: each expert's rows over all symbols have to fit into memory."""
    return _MOST_ENTRIES // (symbols + 1)
