"""Measure secure sums beside their floor and their peers: `parley bench secure-sum`.

Each measured call and its peer take turns in this process, on the same sizes; the best time of each counts, of short
calls the best batch's mean. What is inside:

    token, client        from float32 values to the encoded Upload: the request's checks, key derivation, fixed point,
                         masks, commitments, packing, the codec; RESILIENT among 10 deals its shares, too. Flower's
                         collect is stage 2 of its client mod, which deals none: that is its stage 1.
    client mask, floor   50 masks of 1e7 words added up; the same key streams drawn, and nothing done with them.
    share creation       sealed shares of all of a member's secrets; the exchange of keys left out on both sides.
    server unmask        all that the coordinator does with recorded answers: consistency, digests, shares, masks.
    server sum           the same in STRICT mode, from decoded uploads.
    noise                a token with noise less one without: the norm's clip and its check, the pool, the addition.
    session set-up       one member's work from ask bytes to answer bytes, in two trips, and taking in the slips.

The process has once freed a block of 30 MB, as one with a language model in it has: see `keep_memory`.
Outside, on our side: the carrier, its letter's signature and TLS, which every message has; the gate and its ledger.
"""

import sys
from collections.abc import Callable

from simulations.benches import masking, sampling, sessions, tokens, unmasking
from simulations.benches.rows import PeerMissing, Row, keep_memory
from simulations.benches.sizes import Sizes

GROUPS: tuple[tuple[Callable[[Sizes], list[Row]], tuple[str, ...]], ...] = (
    (
        masking.beside_the_floor,
        ("client_mask_vs_aes_floor_1e7_k50", "client_upload_vs_aes_floor_1e7_k50", "threads2_speedup"),
    ),
    (masking.beside_flower, ("client_vs_flower_1e6", "client_vs_flower_1e7", "upload_bytes_vs_flower_1e6")),
    (unmasking.sharing, ("share_creation_vs_flower_n100", "share_creation_ms_n100")),
    (unmasking.unmasking, ("server_unmask_vs_flower_1e6_n100_drop10",)),
    (unmasking.masks_alone, ("server_masks_only_vs_flower_1e7_n100_drop10",)),
    (masking.in_bytes, ("bytes_per_parameter_1e6_n50",)),
    (
        tokens.of_a_member,
        (
            "token_ms_u32_128256_n5",
            "bytes_per_entry_strict_u32_128256_n5",
            "token_ms_u16_128256_n5",
            "bytes_per_entry_strict_u16_128256_n5",
        ),
    ),
    (tokens.of_the_coordinator, ("server_sum_ms_128256_n5", "server_bytes_to_floats_ms_128256_n5")),
    (tokens.of_noise, ("noise_ms_added_per_token", "norm_check_ms_per_token")),
    (sampling.rate, ("sampler_samples_per_s",)),
    (sampling.beside_opendp, ("sampler_vs_opendp",)),
    (sessions.opening, ("session_setup_ms_n20", "session_setup_ms_n100")),
    (sessions.lasting, ("sums_per_session", "memory_growth_per_sum")),
    (masking.beside_ckks, ("tenseal_ckks_vs_ours_1e6", "tenseal_ckks_bytes_vs_ours_1e6")),
)


def secure_sum(sizes: Sizes | None = None) -> list[Row]:
    """Return all rows but those whose peer is not installed; which, and what to install, goes to the error stream."""
    rows: list[Row] = []
    keep_memory()
    for measure, names in GROUPS:
        try:
            rows += measure(sizes or Sizes())
        except PeerMissing as missing:
            sys.stderr.write(f"parley: left out {', '.join(names)}: {missing}\n")
    return rows
