"""What sums tell of the models' insides: a curious coordinator takes singular values of all that it is shown."""

from dataclasses import replace

import numpy as np
import pytest
from thinkers import Bigram, question

from client.homes.positions import entries
from protocols.logits.asking import NO_SUPPORT
from protocols.logits.block import Asked
from protocols.logits.question import Question, Sends

SYMBOLS, HIDDEN, MEMBERS = 96, 14, 3


def narrow(seed: int, spread: float) -> Bigram:
    """Be a model whose logits come through few hidden units, the later of less weight, as in trained ones."""
    random = np.random.default_rng(seed)
    weights = spread * np.arange(1, HIDDEN + 1) ** -0.7
    return Bigram((random.normal(size=(SYMBOLS, HIDDEN)) * weights) @ random.normal(size=(HIDDEN, SYMBOLS)))


PUBLIC = narrow(0, 1.0)


def sums(asked: Question, models) -> np.ndarray:
    """Return what the coordinator learns when it asks after every symbol."""
    rows = []
    for symbol in range(SYMBOLS):
        one = Asked(asked, np.array([symbol], np.int32), *(np.zeros(n, t) for n, t in ((1, "f"), (0, "i"), (0, "f"))),
                    NO_SUPPORT)  # fmt: skip
        public = PUBLIC.block([symbol], ())
        rows.append(sum(entries(one, 0, m.block([symbol], ()), public)[0] for m in models))
    return np.array(rows)


def gap(matrix: np.ndarray) -> tuple[float, int]:
    """Return the largest ratio of neighbouring singular values, but for the first few and last, and where it is."""
    values = np.linalg.svd(matrix, compute_uv=False)[5:-3]
    ratios = values[:-1] / values[1:]
    return float(ratios.max()), 6 + int(ratios.argmax())


def wide(**changes) -> Question:
    return replace(question(symbols=SYMBOLS, sends=Sends.RATIOS), **changes)


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_sums_of_raw_logits_would_show_the_models_hidden_widths(spread):
    models = [narrow(1 + m, spread) for m in range(MEMBERS)]
    found, where = gap(sum(m.table for m in models))
    assert found > 1e6
    assert where == MEMBERS * HIDDEN


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_sums_of_ratios_that_nothing_cuts_or_rounds_would_show_them_too(spread):
    models = [narrow(1 + m, spread) for m in range(MEMBERS)]
    found, where = gap(sums(wide(clip=100.0, grain=0.0), models))
    assert found > 1e6
    assert where == (MEMBERS + 1) * HIDDEN + 1


@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("asked", [wide(), wide(sends=Sends.WEIGHTED)], ids=["product", "mixture"])
def test_the_rank_attack_finds_no_gap_in_what_is_summed(asked, spread):
    models = [narrow(1 + m, spread) for m in range(MEMBERS)]
    assert gap(sums(asked, models))[0] < 2.5


def test_the_grain_hides_most_of_the_gap_of_models_that_differ_by_less_than_the_clip():
    models = [replace(PUBLIC, table=PUBLIC.table + 0.2 * narrow(1 + m, 1.0).table) for m in range(MEMBERS)]
    assert np.abs(sums(wide(clip=100.0, grain=0.0), models)).max() < 4 * MEMBERS
    assert gap(sums(wide(grain=0.0), models))[0] > 1e6
    assert gap(sums(wide(), models))[0] < 10
