"""Measure the logit level: small private models that predict together, token by token: `parley bench logits`.

Organisations ("silos") have a model each, made from one public model; a shard's model knows an eighth of a silo's
text. Perplexity is over all silos' held-out text. Every figure is the mean over the seeds, each of which deals the
texts and trains all models anew; NAME_spread is the largest less the smallest. Settings are chosen on other windows.

mixture_vs_...           the locally weighted mixture, weights bounded by B = 2, no noise: "sum only", no epsilon
worst_home_ratio         a silo that asks at home, where it mixes its own model's word with the sum's, over its own
                         model alone, on that silo's own text: the worst silo; _of_the_sum: not mixed at home
private_record_...       a symbol sampled from clipped log-ratios of all shards, over the best silo's shards alone by
                         the same mechanism at the same epsilon; unit: one record
private_vs_pmixed        the same mechanism over PMixED, epsilon 8, 256 tokens; unit: one shard, taken away
dpsgd_silos_mixture_...  the mixture of models trained by DP-SGD at epsilon 8 over the best of them, for any number of
                         tokens; unit: one record
organisation_...         what does not help: one organisation of four as the unit
gaussian_...             what does not help: noise that 32 shards add together; unit: one record
bytes_five_tokenizers... five models, each with a tokenizer of its own, over the next byte: bits per byte
forwards_per_byte        tokens that a model has to read for a byte, of the five the one that reads most
tokens_per_round_trip    symbols of a block of four positions, in real homes: drafts of the public model, accepted
                         by chance; _dp: matched, under the exponential mechanism at epsilon 8 for 256 tokens;
                         _student: drafts of a student of the mixture on public text, as student_divergence says
secure_sum_wrong_words   entries of real secure sums that differ from plain integer sums
quantisation_perplexity  how far perplexity by real sums is from that in floating point
protocol_overhead        three members, a process each, on streams: a trip's time beyond the slowest's forward passes
mask_ms_152k             from a member's numbers for one position to its masked letter, words of 16 bits, four members
"""

import math
import multiprocessing
import signal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from simulations.benches.logits_bytes import five
from simulations.benches.logits_figures import ORGANISATION, STAGES, Found
from simulations.benches.logits_lab import Bench, Job, Lab, Size, alone, jobs, train
from simulations.benches.logits_masking import masking
from simulations.benches.logits_overhead import overhead
from simulations.benches.logits_real import real
from simulations.benches.logits_student import student
from simulations.benches.rows import Row, at_least, at_most

ROWS = (
    "mixture_vs_best_silo",
    "mixture_vs_mean_logit",
    "worst_home_ratio",
    "worst_home_ratio_of_the_sum",
    "worst_home_ratio_of_the_sum_b20",
    "private_record_eps8_t256_vs_best_silo",
    "private_record_eps2_t64_vs_best_silo",
    "private_vs_pmixed",
    "dpsgd_silos_mixture_vs_best_dp_silo",
    "bytes_five_tokenizers_vs_best_single",
    "forwards_per_byte",
    "tokens_per_round_trip",
    "tokens_per_round_trip_dp",
    "secure_sum_wrong_words",
    "quantisation_perplexity",
)


def logits(
    corpora: Path | None = None, work: Path | None = None, size: Size | None = None, processes: int = 2
) -> list[Row]:
    """Return all rows. Trained models stay in `work`, where it is given, and are not trained again."""
    size = size or Size()
    with _folder(work) as folder:
        labs = [Lab(folder, corpora, size, seed) for seed in size.seeds]
        with _pool(processes) as pool:
            names = list(pool.map(_begin, labs))
            list(pool.map(train, [job for each in zip(*map(jobs, labs, names), strict=True) for job in each]))
            found = list(pool.map(figures, labs))
    return [*rows_of(found), *overhead(size.overhead), *masking(size.masking)]


def figures(lab: Lab) -> Found:
    """Take one seed's figures, in one thread."""
    alone()
    bench, found = Bench(lab), Found()
    for stage in (*STAGES.values(), real, student, five):
        stage(bench, found)
    return found


def rows_of(found: Sequence[Found]) -> list[Row]:
    """Return the rows for the seeds' figures."""
    rows: list[Row] = []
    for measure, ours, theirs, peer, most in _RATIOS:
        own, others = [f.values[ours] for f in found], [f.values[theirs] for f in found]
        ratios = [a / b for a, b in zip(own, others, strict=True)]
        rows += _with_spread(measure, ratios, most, peer, own, others)
    for name, bound in _AT_HOME:
        of = " of the sum" if "sum" in name else ""
        worst = [f.values[f"worst home ratio{of} B={bound}"] for f in found]
        rows += _with_spread(name, worst, 1.03, f"its own model at home; B = {bound}")
    rows += [r for m, o, t, p in _beside() for r in _compared(m, o, t, p, found)]
    rows += [_plain(measure, name, found, of, unit) for measure, name, of, unit in _PLAIN]
    rows += _through_sums(found)
    return sorted(rows, key=lambda r: _place(r.measure))


def _through_sums(found: Sequence[Found]) -> list[Row]:
    """Return what real homes and real sums came to: the worst seed, or for a rate the mean over the seeds."""

    def values(name: str) -> list[float]:
        return [f.values[name] for f in found]

    return [
        at_most("forwards_per_byte", _mean(values("forwards per byte")), 2.0, "tokens"),
        at_least("tokens_per_round_trip", _mean(values("tokens a trip")), 2.2, "tokens"),
        at_least("tokens_per_round_trip_dp", _mean(values("tokens a trip dp")), 1.2, "tokens"),
        at_most("secure_sum_wrong_words", max(values("wrong words")), 0, f"of {values('words')[0]:,.0f}"),
        at_most("quantisation_perplexity", max(values("quantisation")), 0.001, "share"),
    ]


# measure, figure, of what, unit
_PLAIN = (
    ("largest_share_of_a_weight", "largest share", "mean share of the largest weight; B = 2", "1"),
    ("largest_share_of_a_weight_dp", "dp largest share", "mean share of the largest weight; B = 2", "1"),
    ("tokens_per_round_trip_student", "tokens a trip student", "drafts of a student of the mixture", "tokens"),
    ("student_divergence", "student divergence", "the public model's from the mixture, on public text", "x"),
)
# measure, B
_AT_HOME = (
    ("worst_home_ratio", "2"),
    ("worst_home_ratio_of_the_sum", "2"),
    ("worst_home_ratio_of_the_sum_b20", "20"),
)
# measure, ours, the peer's, who that is, the goal
_RATIOS = (
    (
        "bytes_five_tokenizers_vs_best_single",
        "bytes mixture",
        "bytes best single",
        "best of the five, bits per byte; B = 2",
        0.92,
    ),
    ("mixture_vs_best_silo", "mixture B=2", "best silo", "best silo, perplexity; B = 2", 0.62),
    ("mixture_vs_mean_logit", "mixture B=2", "mean logit", "mean of logits, perplexity; B = 2", 0.80),
    (
        "private_record_eps8_t256_vs_best_silo",
        "record eps=8 T=256",
        "record eps=8 T=256 best silo",
        "best silo's shards at the same epsilon, perplexity",
        0.80,
    ),
    (
        "private_record_eps2_t64_vs_best_silo",
        "record eps=2 T=64",
        "record eps=2 T=64 best silo",
        "best silo's shards at the same epsilon, perplexity",
        0.85,
    ),
    (
        "private_vs_pmixed",
        "removal eps=8 T=256",
        "pmixed eps=8 T=256",
        "PMixED, its best accounting, perplexity",
        0.80,
    ),
    (
        "dpsgd_silos_mixture_vs_best_dp_silo",
        "dp mixture B=2",
        "dp best silo",
        "best silo by DP-SGD, perplexity; B = 2",
        0.75,
    ),
)


def _beside() -> Iterator[tuple[str, str, str, str]]:
    """Yield what is printed beside: measure, ours, the peer's, and who that is."""
    for bound in ("0.5", "1", "3", "20"):
        yield f"mixture_b{bound}_vs_best_silo", f"mixture B={bound}", "best silo", "best silo, perplexity"
    yield "plain_mixture_vs_best_silo", "plain mixture", "best silo", "best silo, perplexity"
    yield "bytes_oracle_routing_vs_best_single", "bytes oracle routing", "bytes best single", "best of the five"
    yield "oracle_routing_vs_best_silo", "oracle routing", "best silo", "best silo, perplexity"
    yield (
        "private_vs_pmixed_published",
        "removal eps=8 T=256",
        "pmixed published eps=8 T=256",
        "PMixED, its published accounting, perplexity",
    )
    yield "dpsgd_silos_mixture_vs_best_silo", "dp mixture B=2", "best silo", "best silo without privacy, perplexity"
    for epsilon, tokens in ORGANISATION:
        name = f"organisation eps={epsilon:g} T={tokens}"
        yield f"organisation_eps{epsilon:g}_t{tokens}_vs_public", name, "public", "public model, perplexity"
    for epsilon in (8, 2):
        yield (
            f"gaussian_eps{epsilon}_t64_vs_public",
            f"gaussian eps={epsilon} T=64",
            "public",
            "public model, perplexity",
        )


def _compared(measure: str, ours: str, theirs: str, peer: str, found: Sequence[Found]) -> list[Row]:
    own, others = [f.values[ours] for f in found], [f.values[theirs] for f in found]
    ratios = [a / b for a, b in zip(own, others, strict=True)]
    return _with_spread(measure, ratios, None, peer, own, others)[:1]


def _with_spread(
    measure: str,
    ratios: Sequence[float],
    most: float | None,
    peer: str,
    own: Sequence[float] = (),
    others: Sequence[float] = (),
) -> list[Row]:
    value = _mean(ratios)
    goal, met = ("for comparison", None) if most is None else (f"at most {most:g} x", value <= most)
    row = Row(measure, value, "x", peer, _mean(others) if others else None, goal=goal, met=met)
    if own:
        row = Row(measure, value, "x", peer, _mean(others), goal=goal, met=met, ours=_mean(own))
    return [row, Row(f"{measure}_spread", max(ratios) - min(ratios), "x", goal="for comparison")]


def _plain(measure: str, name: str, found: Sequence[Found], of: str, unit: str) -> Row:
    return Row(measure, _mean([f.values[name] for f in found]), unit, of, goal="for comparison")


def _place(measure: str) -> tuple[int, str]:
    """Return where a row stands: the promised ones first, in their order, each before its spread."""
    name = measure.removesuffix("_spread")
    return (ROWS.index(name), measure) if name in ROWS else (len(ROWS), "")


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)


def _begin(lab: Lab) -> tuple[str, ...]:
    """Train a seed's vocabulary and public model; return the silos' names."""
    train(Job(lab, "public"))
    return Bench(lab).silos


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        return
    with tempfile.TemporaryDirectory(prefix="parley-") as made:
        yield Path(made)


def _pool(processes: int) -> ProcessPoolExecutor:
    spawned, quiet = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    return ProcessPoolExecutor(processes, spawned, initializer=signal.signal, initargs=quiet)
