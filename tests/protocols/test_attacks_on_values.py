"""Attacks on the values in a sum and on what is charged for them, 33, 34 and 38 to 40 of the list."""

from dataclasses import replace

import numpy as np
import pytest
from byhand import hand, opened, refused, total
from crowd import CONTEXT, PURPOSE, crowd

from client.masking import MaskedRelease, MaskedShare
from privacy.distributed import NoiseShare
from privacy.fixed_point import sum_of_squares
from privacy.gate import Gate
from privacy.ledger import Account, Ledger
from privacy.mechanisms import GaussianMechanism, clip
from privacy.occasion import Occasion
from privacy.policy import Budget, Permission, Policy
from privacy.randomness import SystemRandomness
from privacy.refusal import NotEncodable
from privacy.units import Level, Relation, Unit
from protocols.faults import LocalError, PeerError
from protocols.secure_sum.aggregation import Begun, Expected
from protocols.secure_sum.messages import Agree
from protocols.secure_sum.terms import Mode

ME = "m001"
BUDGET = Budget(epsilon=500.0, delta=1e-5, unit=Unit.MEMBER, relation=Relation.ZERO_OUT)


class Gated:
    """One member's gate and ledger, in front of its sums."""

    def __init__(self, one, folder):
        permission = Permission("coordinator", Level.WEIGHTS, ("average",), 2)
        self.one, self.ledger = one, Ledger(folder / f"{one.name}.db", durable=False)
        self.gate = Gate(Policy(1, BUDGET, (permission,)), self.ledger, SystemRandomness())

    def begin(self, request, slips):
        expected = Expected(PURPOSE, request.spec, CONTEXT, request.query)
        return self.one.sums.begin(self.one.session, request, slips, expected)

    def release(self, mechanism, number: int):
        occasion = Occasion("s", number, "average", Level.WEIGHTS, "coordinator", 3, summed=True)
        return self.gate.release(mechanism, Account("data", BUDGET), occasion).value

    @property
    def charged(self) -> int:
        return len(list(self.ledger.entries()))


class Drawn:
    """What a member has to say, drawn when it is asked for."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def draw(self, _randomness) -> np.ndarray:
        return self.values


def noisy(at, members=None):
    return at.spec(members, coordinate=1.0, norm=1.0, noise_multiplier=1.0, honest=2)


# 33: crashes ----------------------------------------------------------------------------------------------------


def test_a_crash_after_the_charge_and_before_the_upload_leaves_the_charge_and_no_key(tmp_path):
    at = opened(4, Mode.STRICT)
    gated, request = Gated(at[ME], tmp_path), at.request(spec=noisy(at))
    begun = gated.begin(request, at.slips(ME))

    class Crash(Exception):
        pass

    def crash(_values):
        gated.one.sums.close()  # a process that is gone has no memory
        raise Crash

    share = MaskedShare(Drawn(at[ME].values), request.spec, at.there.terms.honest, crash)
    with pytest.raises(Crash):
        gated.release(share, 0)
    assert gated.charged == 1
    with refused(PeerError, "no such session here, or not at that stage: a restart forgets all keys"):
        gated.begin(request, at.slips(ME))
    with refused(PeerError, "no such session here"):
        at[ME].agree(Agree(request.number, (ME,), bytes(32)))
    assert begun.request == request


def test_nothing_secret_of_a_session_is_in_what_is_printed_of_it():
    at = hand(4)
    stages = [at[ME].sums._sessions[at[ME].session]]
    at.join()
    stages += [at.joined(ME), at.joined(ME)._half]
    request = at.request()
    uploads = at.upload(request)
    stages.append(at.stage(ME))
    at.agree(at.survivors(request, uploads))
    ready = at.joined(ME).ready
    stages += [at.joined(ME), ready, *ready.pairs.values(), at.stage(ME), Begun(ready, request, request.ctx)]
    assert len({type(stage) for stage in stages}) == 8
    shown = "".join(map(repr, [*stages, at[ME].sums]))
    for pair in ready.pairs.values():
        for secret in (pair.mask, pair.sealing, pair.opening):
            assert repr(secret) not in shown
    for what in ("PrivateKey", "array(", "_data=", "_roots=", "mask="):
        assert what not in shown


# 34: differencing -----------------------------------------------------------------------------------------------


def test_a_sum_and_the_same_without_one_member_are_both_charged_with_fresh_noise_and_no_third_is_given(tmp_path):
    at = opened(4, Mode.STRICT, length=4000, attempts=2)
    gated = {m: Gated(at[m], tmp_path) for m in at.names}
    totals = []
    for attempt, members in enumerate((at.names, at.names[:3])):
        spec = noisy(at, len(members))
        request = at.request(members=members, query=3, attempt=attempt, spec=spec)
        uploads = []
        for m in members:
            begun = gated[m].begin(request, at.slips(m))

            def mask(values, m=m, begun=begun):
                return at[m].sums.upload(at[m].session, begun, values)

            zeros = Drawn(np.zeros(4000, np.float32))
            uploads.append(gated[m].release(MaskedShare(zeros, spec, at.there.terms.honest, mask), attempt))
        totals.append(total(request, uploads).view(np.int32) / spec.deviation)
    assert [gated[m].charged for m in at.names] == [2, 2, 2, 1]
    assert np.var(totals[0] - totals[1]) == pytest.approx(4 + 3, rel=0.15)  # reused noise would leave 1
    assert abs(np.corrcoef(totals)[0, 1]) < 0.1
    with refused(PeerError, "attempt 3, the terms allow 2", at[ME]):
        at.ask(ME, at.request(query=3, attempt=2))


# 38, 39, 40: values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0001, 1e3, 1e30, 3e38])
def test_a_vector_beyond_its_clip_moves_the_sum_no_further_than_the_bound_of_the_accounting(factor):
    at = opened(4, Mode.STRICT, length=1000)
    spec = at.spec(coordinate=1.0, norm=1.0)
    for m in at.names:
        at[m].values = np.zeros(1000, np.float32)
    at[ME].values = (np.random.default_rng(1).normal(size=1000).clip(-1, 1) * factor).astype(np.float32)
    request = at.request(spec=spec)
    words = total(request, [at.ask(m, request, spec=spec) for m in at.names])
    assert 0 < sum_of_squares(words.view(np.int32)) <= spec.bound**2


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_before_anything_is_charged(value, tmp_path):
    at = opened(4, Mode.STRICT)
    gated, request = Gated(at[ME], tmp_path), at.request(spec=noisy(at))
    begun = gated.begin(request, at.slips(ME))
    at[ME].values[3] = value
    with refused(NotEncodable, "a value is not finite"):
        gated.release(MaskedShare(NoiseShare(at[ME].values, request.spec, 2), lambda _v: pytest.fail("masked")), 0)
    assert gated.charged == 0
    assert at.joined(ME).ready.number < begun.request.number  # nothing is used up


@pytest.mark.parametrize("vector", [np.zeros(8, np.float32), np.zeros((7, 1)), np.zeros(7, np.int32), [0.0] * 7])
def test_a_vector_of_another_shape_or_type_is_refused(vector):
    spec = opened(3).spec()
    with refused(NotEncodable, "expected"):
        spec.encode(vector)


def test_a_refusal_after_the_charge_is_none_since_a_refusal_says_that_nothing_was_charged(tmp_path):
    at = opened(4, Mode.STRICT)
    gated, spec = Gated(at[ME], tmp_path), at.spec()

    class Overflown(GaussianMechanism):
        def draw(self, randomness):
            return np.full(7, np.nan, np.float32)

    mechanism = MaskedRelease(Overflown(clip(at[ME].values, 1.0), 4.0), spec, lambda _v: pytest.fail("masked"))
    with pytest.raises(LocalError, match="cannot be encoded"):
        gated.release(mechanism, 0)
    assert gated.charged == 1


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("side", [-1, 1])
def test_a_sum_in_which_everybody_is_at_the_limit_decodes_exactly(bits, mode, side):
    there = crowd(5, mode, bits=bits)
    spec = there.spec(5)
    for one in there.members.values():
        one.values = np.full(7, side * 1e6, np.float32)
    summed = there.sum(there.open())
    integer = int(spec.encode(there.members[ME].values)[0])
    assert 2 ** (bits - 1) * 0.9 < 5 * abs(integer) < 2 ** (bits - 1)
    words = summed.words & np.uint32(0xFFFFFF) if bits == 24 else summed.words
    assert spec.decode(words, 5).tolist() == [5 * integer / spec.scale] * 7
    with pytest.raises(ValueError, match=f"{bits} bits are too few"):
        replace(spec, scale=spec.scale * 1.2)
