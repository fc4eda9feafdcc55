"""Measure what one member pays for one masked vector, in time and bytes, beside the floor, Flower and CKKS."""

from collections.abc import Callable
from functools import partial

from protocols.secure_sum.masks import add_masks, blank
from protocols.secure_sum.terms import Mode
from simulations.benches.keystream import keystream
from simulations.benches.members import Crowd, crowd, encoded
from simulations.benches.rows import Row, against, at_most, in_turns, versus
from simulations.benches.sizes import Sizes, Vector, mask_keys, plain_spec, vector


def beside_the_floor(sizes: Sizes) -> list[Row]:
    """Compare 50 masks, and a whole upload with as many, to the key streams that they are made of."""
    words, keys = blank(sizes.long, 32), mask_keys(sizes.masks)
    crowd_of_all = crowd(sizes.masks + 1, Mode.STRICT)
    mask, halves, whole, floor = in_turns(
        sizes.repeats,
        lambda: add_masks(words, keys),
        lambda: add_masks(words, keys, threads=2),
        _uploading(crowd_of_all, vector(sizes.long)),
        lambda: keystream(sizes.masks, words.nbytes),
    )
    name = "AES-256-CTR key stream, ms"
    return [
        against("client_mask_vs_aes_floor_1e7_k50", mask, floor, name, 1.25),
        against("client_upload_vs_aes_floor_1e7_k50", whole, floor, name),
        versus("threads2_speedup", halves, mask, "one thread, ms", 1.7),
    ]


def beside_flower(sizes: Sizes) -> list[Row]:
    """Compare a whole upload, among 10 members, to Flower's masked parameters; in bytes, too."""
    from simulations.benches.flower_secagg import Client

    here = _ten(sizes)
    theirs = Client(sizes.clients, here.terms.threshold(sizes.clients))
    rows = []
    for measure, length, least in (("1e6", sizes.short, 8), ("1e7", sizes.long, 10)):
        values = vector(length)
        ours, peer = in_turns(3, _uploading(here, values), partial(theirs.collect, values))
        rows.append(versus(f"client_vs_flower_{measure}", ours, peer, "Flower's collect, n=10, ms", least))
    values = vector(sizes.short)
    sent, theirs_sent = len(_uploading(here, values)()), sum(map(len, theirs.collect(values)))
    peer_bytes = "Flower's masked parameters, B a parameter"
    rows.append(versus("upload_bytes_vs_flower_1e6", sent / sizes.short, theirs_sent / sizes.short, peer_bytes))
    return rows


def beside_ckks(sizes: Sizes) -> list[Row]:
    """Compare a whole upload, among 10 members, to the same vector encrypted homomorphically."""
    from simulations.benches.ckks import Encryptor

    values, theirs = vector(sizes.short), Encryptor()
    upload = _uploading(_ten(sizes), values)
    ours, peer = in_turns(3, upload, lambda: theirs.encrypt(values))
    sent, theirs_sent = len(upload()) / sizes.short, len(theirs.encrypt(values)) / sizes.short
    name = "TenSEAL CKKS 8192 [60,40,40] 2**40"
    return [
        versus("tenseal_ckks_vs_ours_1e6", ours, peer, f"{name}, ms"),
        versus("tenseal_ckks_bytes_vs_ours_1e6", sent, theirs_sent, f"{name}, B a value"),
    ]


def in_bytes(sizes: Sizes) -> list[Row]:
    """Count all that a member sends for one sum of 50: its upload, agreement and revealed shares."""
    here = crowd(sizes.some, Mode.RESILIENT, colluding=sizes.some // 3)
    request, values = here.request(plain_spec(sizes.short, sizes.some)), vector(sizes.short)
    uploads = {m: here.members[m].upload(request, values) for m in request.members}
    here.sent.clear()
    here.finish(request, uploads)
    sent = len(encoded(uploads[here.first.name])) + here.sent[here.first.name]
    return [at_most("bytes_per_parameter_1e6_n50", sent / sizes.short, 4 * 1.02, "B")]


def _ten(sizes: Sizes) -> Crowd:
    return crowd(sizes.clients, Mode.RESILIENT, colluding=sizes.clients // 3)


def _uploading(here: Crowd, values: Vector) -> Callable[[], bytes]:
    """Return what answers one more request of the crowd's, to bytes."""
    spec = plain_spec(len(values), len(here.members))
    return lambda: encoded(here.first.upload(here.request(spec), values))
