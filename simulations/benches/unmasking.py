"""Measure what dropouts cost: sharing what unmasks a member, and taking masks away, beside Flower's SecAgg+.

Flower's parts are measured one by one and multiplied by how often its workflow does each: it is linear.
"""

from protocols.secure_sum.boxes import Dealing, deal, uniform
from protocols.secure_sum.masks import add_masks, blank
from protocols.secure_sum.terms import Mode
from simulations.benches.members import crowd
from simulations.benches.rows import Row, at_most, in_turns, versus
from simulations.benches.sizes import Sizes, mask_keys, plain_spec, vector

_PART, _THEIR_PART = 90, 9  # masks that are measured for all


def sharing(sizes: Sizes) -> list[Row]:
    """Compare a member's sealed shares of all its secrets to Flower's; neither exchanges keys here."""
    from simulations.benches.flower_secagg import Sharing

    count = sizes.members
    threshold = (count + count // 3) // 2 + 1
    names = tuple(f"m{i:03d}" for i in range(count))
    dealing, secrets = Dealing(names[0], names, tuple(range(1, count + 1)), threshold), uniform(bytes(32), count)
    keys = {name: key for name, (_, key) in zip(names, mask_keys(count), strict=True)}

    def ours() -> object:
        return deal(dealing, secrets, bytes(32), keys.__getitem__)

    ours()  # the matrix of these points is computed once, and kept
    theirs = Sharing(count, threshold)
    *several, peer = in_turns(3, *[ours] * 5, theirs.share)
    took = min(several)
    return [
        versus("share_creation_vs_flower_n100", took, peer, "Flower's create_shares and encrypt, ms", 300),
        at_most("share_creation_ms_n100", took, 8, "ms"),
    ]


def unmasking(sizes: Sizes) -> list[Row]:
    """Compare all that the coordinator does from uploads to the sum, a tenth being missing, to Flower's unmasking."""
    from simulations.benches.flower_secagg import Server

    count, dropped = sizes.members, sizes.members // 10
    here = crowd(count, Mode.RESILIENT, colluding=count // 3)
    request, values = here.request(plain_spec(sizes.short, count)), vector(sizes.short)
    uploads = {m: here.members[m].upload(request, values) for m in request.members[dropped:]}
    trips = here.finish(request, uploads)
    (ours,) = in_turns(2, lambda: here.replay(request, uploads, trips))
    theirs = Server(sizes.short, count, here.terms.threshold(count), count - dropped)
    cost = theirs.cost(_THEIR_PART).unmask(count - dropped, dropped)
    name = f"Flower's unmask, ms, from 1 seed, 1 key and {_THEIR_PART} masks"
    return [versus("server_unmask_vs_flower_1e6_n100_drop10", ours, cost, name, 130)]


def masks_alone(sizes: Sizes) -> list[Row]:
    """Compare taking the masks away, once their seeds are known. A part of both sides' masks stands for all."""
    from simulations.benches.flower_secagg import Server, ServerCost

    survivors, dropped = sizes.members - sizes.members // 10, sizes.members // 10
    words, keys, theirs = blank(sizes.long, 32), mask_keys(_PART), Server(sizes.long, 3, 2, 2)
    took, peer = in_turns(3, lambda: add_masks(words, keys), lambda: theirs.unmask(_THEIR_PART))
    ours = took / _PART * (survivors + survivors * dropped)
    whole = ServerCost(0, 0, 0, peer / _THEIR_PART).masks(survivors, dropped)
    name = f"Flower's masks, ms, from {_THEIR_PART}, ours from {_PART}"
    return [versus("server_masks_only_vs_flower_1e7_n100_drop10", ours, whole, name, 10)]
