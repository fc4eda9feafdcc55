"""Measure the weight level: what joining costs in utility, and what an update tells: `parley bench weights`.

Each group of rows stands in a file of its own, and takes minutes: models are trained. A group says what it holds.
"""

from collections.abc import Callable

from simulations.benches.pooling import pooling
from simulations.benches.quantile import adaptive_clipping
from simulations.benches.ranks import ranks
from simulations.benches.rows import Row
from simulations.benches.span import span_attack

GROUPS: tuple[tuple[Callable[[], list[Row]], tuple[str, ...]], ...] = (
    (
        pooling,
        (
            "pooled_vs_central_dpsgd_eps8",
            "local_average_vs_central_dpsgd_eps8",
            "central_share_of_nonprivate_gain",
            "pooled_share_of_nonprivate_gain",
            "local_average_share_of_nonprivate_gain",
        ),
    ),
    (ranks, ("mixed_ranks_vs_uniform", "uniform_rank_vs_base", "aggregation_error")),
    (adaptive_clipping, ("adaptive_clip_quantile_error",)),
    (span_attack, ("span_attack_recall_over_base",)),
)


def weights() -> list[Row]:
    """Return all rows."""
    return [row for measure, _ in GROUPS for row in measure()]
