"""Train a student on the mixture's word on public text, and let it draft: does a round trip give more symbols?

student_divergence        from the mixture's labels on public windows that the student was not taught, over the public
                          model's own divergence from them
tokens_per_round_trip_student   as tokens_per_round_trip, where the student drafts and not the public model
"""

import tempfile
from pathlib import Path

import numpy as np

from client.experts.tokens import TokenExpert
from client.experts.view import View
from protocols.logits.question import Sends
from protocols.logits.speaking import likeliest
from simulations.benches import logits_rules as rules
from simulations.benches.logits_figures import BOUND, Found
from simulations.benches.logits_homes import question
from simulations.benches.logits_lab import Bench
from simulations.benches.logits_models import scores
from simulations.benches.logits_real import POSITIONS, base_of, rate
from simulations.student import Lesson, divergence, teach, wearing

SUPPORT = 64


def student(bench: Bench, found: Found) -> None:
    """Teach a student, judge it, and speak with its drafts in homes that have the silos' models."""
    size, decay = bench.lab.size, float(found.chosen["decay"])
    own = {name: [base_of(bench, bench.silo(name))] for name in bench.silos}
    base, apart = base_of(bench, bench.public()), base_of(bench, bench.public())
    lessons = lessons_of(bench, decay)
    taught, held_out = lessons[: -size.lessons_held_out], lessons[-size.lessons_held_out :]
    before = divergence(TokenExpert(View(base)), held_out)
    asked = question(
        base, Sends.WEIGHTED, block=POSITIONS, most=size.answer, experts=len(own), weight_bound=BOUND, decay=decay
    )
    learnt = teach(apart, taught, size.schooling, bench.lab.seed)
    with tempfile.TemporaryDirectory(prefix="parley-") as folder, wearing(apart, learnt):
        drafter = TokenExpert(View(apart))
        found.values["student divergence"] = divergence(drafter, held_out) / before
        found.values["tokens a trip student"] = rate(bench, base, own, Path(folder), "mixture", asked, drafter)


def lessons_of(bench: Bench, decay: float) -> list[Lesson]:
    """Return what the mixture says of windows of the public text, over what the public model finds likeliest."""
    size = bench.lab.size
    rows = bench.rows(bench.texts.public)
    rows = rows[np.random.default_rng(bench.lab.seed).permutation(len(rows))[: size.lessons + size.lessons_held_out]]
    p0, made = scores(bench.public(), rows), []
    each = np.stack([scores(bench.silo(name), rows) for name in bench.silos])
    told = [
        np.take_along_axis(p, rows[:, 1:, None].astype(np.intp), -1)[..., 0].astype(np.float64) for p in (p0, *each)
    ]
    weights = rules.weights(told[0], np.stack(told[1:]), BOUND, decay)[..., None]
    for n, row in enumerate(rows):
        q = (np.exp(p0[n]) + (weights[:, n] * np.exp(each[:, n])).sum(0)) / (1 + weights[:, n].sum(0))
        where = likeliest(p0[n], min(SUPPORT, p0.shape[-1]))
        inside = np.take_along_axis(q, where.astype(np.intp), axis=1)
        rest = np.maximum(1 - inside.sum(axis=1, keepdims=True), 0)
        made.append(Lesson(row, where, np.concatenate([inside, rest], axis=1).astype(np.float32)))
    return made
