"""Take the figures of `parley bench logits` for one seed: settings are chosen on other windows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TypeVar

import numpy as np

from simulations.benches import logits_private as private
from simulations.benches import logits_rules as rules
from simulations.benches.logits_lab import Bench
from simulations.benches.logits_private import Unit
from simulations.benches.logits_rules import Judged, Reals, perplexity

S = TypeVar("S")
BOUND = 2.0  # B: a weight is within exp(-B) and exp(B)
BOUNDS = (0.5, 1.0, 3.0, 20.0)  # for comparison
DECAYS = (0.5, 0.65, 0.8, 0.9, 0.95, 1.0)
CLIPS = (0.25, 0.5, 1.0, 2.0, 4.0)
LEANS = (0.0, 0.5)
TEMPERATURES = (0.9, 1.0, 1.15, 1.3)
ORGANISATION = ((8.0, 16), (8.0, 256), (2.0, 64))  # epsilon, tokens
# alpha, share that takes part; whose accounting: see `Peer`
SAMPLED = ((3, 1.0), (3, 0.1), (3, 0.03))
ZERO_OUT = (3, 4, 6)


@dataclass(slots=True)
class Found:
    """Hold perplexities and ratios by name, of one seed, and what was chosen."""

    values: dict[str, float] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)


def best(options: Iterable[S], judge: Callable[[S], Reals]) -> S:
    """Return the option with the least perplexity."""
    return min(options, key=lambda o: perplexity(judge(o)))


def silos(bench: Bench, found: Found) -> None:
    """Judge the silos' own models: each alone, and joined by each rule, without noise."""
    models = [bench.silo(name) for name in bench.silos]
    tune, test = bench.judged(models, held_out=False), bench.judged(models, held_out=True)
    found.values["public"] = perplexity(test.told)
    for name, alone in zip(bench.silos, test.each, strict=True):
        found.values[f"silo {name}"] = perplexity(alone)
    found.values["best silo"] = min(perplexity(alone) for alone in test.each)
    _together(tune, test, "", found)
    with_public = best((False, True), lambda w: rules.mean_logit(tune, w))
    found.values["mean logit"] = perplexity(rules.mean_logit(test, with_public))
    organisation(tune, test, found)


def dp_silos(bench: Bench, found: Found) -> None:
    """Judge the models trained by DP-SGD in the same way."""
    models = [bench.dp(name) for name in bench.silos]
    tune, test = bench.judged(models, held_out=False), bench.judged(models, held_out=True)
    for name, alone in zip(bench.silos, test.each, strict=True):
        found.values[f"dp silo {name}"] = perplexity(alone)
    found.values["dp best silo"] = min(perplexity(alone) for alone in test.each)
    _together(tune, test, "dp ", found)


def _together(tune: Judged, test: Judged, prefix: str, found: Found) -> None:
    """Judge the locally weighted mixture, and beside it the plain one and the one that nobody can know."""
    decay = best(DECAYS, lambda g: rules.mixture(tune.told, tune.each, BOUND, g))
    found.chosen[f"{prefix}decay"] = f"{decay:g}"
    for bound in (BOUND, *BOUNDS):
        joined = rules.mixture(test.told, test.each, bound, decay)
        found.values[f"{prefix}mixture B={bound:g}"] = perplexity(joined)
        found.values[f"{prefix}worst home ratio B={bound:g}"] = _worst_at_home(test, joined)
        found.values[f"{prefix}worst home ratio of the sum B={bound:g}"] = _worst_at_home(test, joined, mixing=False)
    found.values[f"{prefix}plain mixture"] = perplexity(rules.plain_mixture(test.told, test.each))
    found.values[f"{prefix}oracle routing"] = perplexity(rules.routed(test.told, test.each))
    w = rules.weights(test.told, test.each, BOUND, decay)
    found.values[f"{prefix}largest share"] = float((w.max(0) / (1 + w.sum(0))).mean())


def _worst_at_home(test: Judged, joined: Reals, *, mixing: bool = True) -> float:
    """Return the perplexity on a silo's own text over that of its own model, of the silo that loses most.

    With `mixing` the silo asks at its own home, and mixes what the sum says with its own model's word.
    """
    found = []
    for number, own in enumerate(test.each):
        home = test.home == number
        asked = rules.at_home(joined[home], own[home]) if mixing else joined[home]
        found.append(perplexity(asked) / perplexity(own[home]))
    return max(found)


def organisation(tune: Judged, test: Judged, found: Found) -> None:
    """Protect whole organisations, few as they are: what is left of the gain."""
    for epsilon, tokens in ORGANISATION:
        found.values[f"organisation eps={epsilon:g} T={tokens}"] = _sampled(
            tune, test, private.push(epsilon, tokens, Unit.REMOVAL)
        )


def shards(bench: Bench, found: Found) -> None:
    """Judge shards: all silos' together, and each silo's alone, at the same epsilon; and other mechanisms."""
    models = [m for name in bench.silos for m in bench.shards(name)]
    tune, test = bench.judged(models, held_out=False), bench.judged(models, held_out=True)
    each = len(models) // len(bench.silos)
    for epsilon, tokens in ((8.0, 256), (2.0, 64)):
        a = private.push(epsilon, tokens, Unit.RECORD)
        name = f"record eps={epsilon:g} T={tokens}"
        found.values[name] = _sampled(tune, test, a)
        own = [range(n * each, (n + 1) * each) for n in range(len(bench.silos))]
        found.values[f"{name} best silo"] = min(_sampled(tune.of(s), test.of(s), a) for s in own)
    found.values["removal eps=8 T=256"] = _sampled(tune, test, private.push(8.0, 256, Unit.REMOVAL))
    found.values["pmixed eps=8 T=256"] = _pmixed(tune, test, found, bench.lab.seed)
    for epsilon, tokens in ((8.0, 64), (2.0, 64)):
        found.values[f"gaussian eps={epsilon:g} T={tokens}"] = _gaussian(tune, test, epsilon, tokens, bench.lab.seed)


def _sampled(tune: Judged, test: Judged, a: float) -> float:
    """Return the perplexity where a symbol is sampled from a product of clipped ratios, each pushing at most by a.

    The clip, its lean and the temperature are chosen; the strength follows from the budget.
    """
    found: list[tuple[float, float, float, float]] = []
    for clip, lean in product(CLIPS, LEANS):
        total = rules.clipped(tune, clip, lean)
        for tau in TEMPERATURES:
            found.append((perplexity(rules.product(tune, total, a * tau / clip, tau)), clip, lean, tau))
    _, clip, lean, tau = min(found)
    return perplexity(rules.product(test, rules.clipped(test, clip, lean), a * tau / clip, tau))


def _pmixed(tune: Judged, test: Judged, found: Found, seed: int) -> float:
    """Return PMixED's perplexity at its best settings, by its own accounting or by ours."""
    few, count = tune.take(np.arange(0, len(tune.rows), 4)), len(tune.models)
    options = {
        f"alpha {a}, share {s:g}": (a, a * private.pmixed_beta(8.0, 256, count, a, s), s) for a, s in SAMPLED
    } | {f"alpha {a}, zero-out": (a, private.pmixed_radius(8.0, 256, count, a), 1.0) for a in ZERO_OUT}

    def judge(name: str, on: Judged) -> Reals:
        alpha, radius, sampled = options[name]
        return private.pmixed(on, alpha, radius, sampled, np.random.default_rng(seed))

    chosen = best(options, lambda name: judge(name, few))
    found.chosen["pmixed"] = chosen
    published = best([n for n in options if "share" in n], lambda name: judge(name, few))
    found.values["pmixed published eps=8 T=256"] = perplexity(judge(published, test))
    return perplexity(judge(chosen, test)) if chosen != published else found.values["pmixed published eps=8 T=256"]


def _gaussian(tune: Judged, test: Judged, epsilon: float, tokens: int, seed: int) -> float:
    """Return the perplexity with Gaussian noise that the members add: replaced, a vector moves by twice its norm."""
    few = tune.take(np.arange(0, len(tune.rows), 4))
    deviation = (2 / private.rho_of(epsilon, tokens)) ** 0.5
    options = [(norm, strength, k) for norm in (2.0, 8.0) for strength in (1.0, 4.0) for k in (64, 256)]

    def judge(option: tuple[float, float, int], on: Judged) -> Reals:
        norm, strength, support = option
        most = min(support, on.public.shape[-1])
        return private.gaussian_sum(on, norm, strength, deviation, most, np.random.default_rng(seed))

    return perplexity(judge(best(options, lambda o: judge(o, few)), test))


STAGES: Mapping[str, Callable[[Bench, Found], None]] = {"silos": silos, "dp_silos": dp_silos, "shards": shards}
