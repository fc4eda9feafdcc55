"""Run Flower's SecAgg+ by its own functions, of flwr 1.41: the peer of secure sums.

The stages of a client are those of its client mod, called as the mod calls them; of the server, what its workflow
calls, one for one. Defaults throughout: modulus 2**32, clipping at 8, 2**22 steps, a complete graph.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations.benches.rows import PeerMissing, in_turns, timed

try:
    from flwr.app import ConfigRecord
    from flwr.client.mod.secure_aggregation.secaggplus_mod import (
        SecAggPlusState,
        _collect_masked_vectors,
        _setup,
        _share_keys,
    )
    from flwr.common import ndarrays_to_parameters
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
    from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_mod, parameters_subtraction
    from flwr.common.secure_aggregation.secaggplus_constants import Key
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
    from flwr.supercore.primitives.asymmetric import (
        bytes_to_private_key,
        bytes_to_public_key,
        generate_key_pairs,
        private_key_to_bytes,
        public_key_to_bytes,
    )
except ModuleNotFoundError as missing:
    raise PeerMissing("flwr") from missing

MODULUS, STEPS, CLIPPING = 2**32, 2**22, 8.0
_SEED = bytes(range(32))


class Client:
    """Be one of `count` of Flower's clients, of whom `threshold` reconstruct, that is about to mask its vector."""

    def __init__(self, count: int, threshold: int) -> None:
        states = {n: SecAggPlusState() for n in range(1, count + 1)}
        keys = {}
        for n, state in states.items():
            state.nid = n
            out = _setup(state, ConfigRecord(_parameters(count, threshold)))
            keys[str(n)] = [out[Key.PUBLIC_KEY_1], out[Key.PUBLIC_KEY_2]]
        boxes = {n: _share_keys(s, ConfigRecord(dict(keys))) for n, s in states.items()}
        for_me = {n: b[Key.CIPHERTEXT_LIST][b[Key.DESTINATION_LIST].index(1)] for n, b in boxes.items() if n != 1}
        self._state = states[1]
        self._configs = ConfigRecord({Key.SOURCE_LIST: list(for_me), Key.CIPHERTEXT_LIST: list(for_me.values())})

    def collect(self, vector: NDArray[np.float32]) -> list[bytes]:
        """Return the masked parameters as the client mod's stage 2 makes them: from parameters to bytes."""
        parameters = ndarrays_to_parameters([vector])
        out = _collect_masked_vectors(self._state, self._configs, 1, parameters)
        masked: list[bytes] = out[Key.MASKED_PARAMETERS]
        return masked


def _parameters(count: int, threshold: int) -> dict[str, Any]:
    return {
        Key.SAMPLE_NUMBER: count,
        Key.SHARE_NUMBER: count,
        Key.THRESHOLD: threshold,
        Key.CLIPPING_RANGE: CLIPPING,
        Key.TARGET_RANGE: STEPS,
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: 1000.0,
    }


class Sharing:
    """Share a client's two secrets with `count` - 1 others, all keys agreed on: stage 1 without its key exchanges."""

    def __init__(self, count: int, threshold: int) -> None:
        self.count, self.threshold = count, threshold
        (mine, _), (_, theirs) = generate_key_pairs(), generate_key_pairs()
        self._secret, self._key = private_key_to_bytes(mine), generate_shared_key(mine, theirs)

    def share(self) -> list[bytes]:
        """Return the sealed shares for the others."""
        seeds = create_shares(_SEED, self.threshold, self.count)
        keys = create_shares(self._secret, self.threshold, self.count)
        pairs = list(zip(seeds, keys, strict=True))[1:]
        return [encrypt(self._key, share_keys_plaintext_concat(1, i, *pair)) for i, pair in enumerate(pairs)]


@dataclass(frozen=True, slots=True)
class ServerCost:
    """Hold what parts of unmasking cost, in milliseconds each."""

    seed_combined: float
    key_combined: float
    key_agreed: float
    mask_removed: float

    def masks(self, survivors: int, dropped: int) -> float:
        """Return what it costs to make and take away all masks: every survivor's own, every dropped one's pairs."""
        return self.mask_removed * (survivors + _pairs(survivors, dropped))

    def unmask(self, survivors: int, dropped: int) -> float:
        """Return what the whole stage costs. It is linear in each part."""
        shamir = self.seed_combined * survivors + self.key_combined * dropped
        return shamir + self.key_agreed * _pairs(survivors, dropped) + self.masks(survivors, dropped)


def _pairs(survivors: int, dropped: int) -> int:
    return dropped * (survivors + dropped - 1)  # the workflow also makes the masks between two who dropped out


class Server:
    """Be Flower's server in its unmasking stage. It combines all the shares that it has, not a threshold of them."""

    def __init__(self, length: int, count: int, threshold: int, survivors: int) -> None:
        (mine, _), (_, theirs) = generate_key_pairs(), generate_key_pairs()
        self._key, self._peer = private_key_to_bytes(mine), public_key_to_bytes(theirs)
        self._sizes = (count, threshold, survivors)
        self._masked = [np.zeros((), np.int64), np.arange(length, dtype=np.int64)]

    def cost(self, masks: int) -> ServerCost:
        """Measure each part: one seed and one private key combined, ten keys agreed on, so many masks taken away."""
        count, threshold, survivors = self._sizes
        seed, key = (create_shares(s, threshold, count)[:survivors] for s in (_SEED, self._key))
        shamir = timed(partial(combine_shares, seed)), timed(partial(combine_shares, key))
        agreed, removed = in_turns(3, lambda: [self.agree() for _ in range(10)], lambda: self.unmask(masks))
        return ServerCost(*shamir, agreed / 10, removed / masks)

    def agree(self) -> bytes:
        """Find the key of one mask of a client that dropped out."""
        key: bytes = generate_shared_key(bytes_to_private_key(self._key), bytes_to_public_key(self._peer))
        return key

    def unmask(self, masks: int) -> None:
        """Make so many masks and take each away from the sum."""
        masked = self._masked
        for i in range(masks):
            seed = i.to_bytes(4, "big") + _SEED[4:]
            masked = parameters_subtraction(masked, pseudo_rand_gen(seed, MODULUS, [a.shape for a in masked]))
        parameters_mod(masked, MODULUS)
