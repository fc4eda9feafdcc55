"""The benchmark of the logit level compares rules at equal budgets, on text that nobody saw. No test has a clock."""

import math

import numpy as np
import pytest
from dp_accounting import SelfComposedDpEvent, ZCDpEvent

from client.homes.positions import entries
from privacy.accounting.accountant import Filter, default_orders, price
from privacy.config import ConfigError
from simulations.benches import logits_figures, logits_real
from simulations.benches import logits_private as private
from simulations.benches import logits_rules as rules
from simulations.benches.dp_models import TINY as SMALLEST
from simulations.benches.logits import ROWS, logits, rows_of
from simulations.benches.logits_corpora import PACKAGES, folders, installed
from simulations.benches.logits_dp import DpTraining
from simulations.benches.logits_figures import Found
from simulations.benches.logits_lab import Bench, Lab, Size
from simulations.benches.logits_masking import Masking, masking
from simulations.benches.logits_models import Shape, Training
from simulations.benches.logits_overhead import Overhead
from simulations.benches.logits_overhead import rows_of as overhead_of
from simulations.benches.logits_private import Unit
from simulations.benches.logits_real import real
from simulations.benches.logits_rules import Judged
from simulations.benches.logits_student import lessons_of, student
from simulations.student import Schooling

WORDS = {"ash": "the ash stands tall", "birch": "birch bark is white", "cedar": "cedar wood smells sweet"}
RATIOS = [name for name in ROWS if "_vs_" in name]
TINY = Size(
    seeds=(7, 8),
    shape=Shape(vocabulary=270, hidden=8, inner=8, layers=1, heads=2, window=16),
    public=Training(2, 0.01),
    silo=Training(2, 0.01),
    shard=Training(1, 0.01),
    dp=DpTraining(steps=1, batch=4, rank=1),
    shards=2,
    chosen_by=2,
    held_out=2,
    answer=12,
    schooling=Schooling(rank=1, steps=2),
    lessons=4,
    lessons_held_out=2,
    vocabularies=(265, 280, 300, 320),
    own_tokens=Training(2, 0.01),
    bytes_held_out=24,
    bytes_chosen_by=12,
    masking=Masking(64, 1, 1),
    overhead=Overhead(SMALLEST, context=8, blocks=3, warm_up=1),
)


@pytest.fixture
def corpora(tmp_path):
    """Four silos' folders: a public one, and three members'."""
    for name, words in {**WORDS, "public": "trees have leaves"}.items():
        (tmp_path / "texts" / name).mkdir(parents=True)
        for i in range(20):
            (tmp_path / "texts" / name / f"{i}.txt").write_text(f"{i}: {words}, said {name}.\n" * 30)
    return tmp_path / "texts"


@pytest.fixture
def judged():
    """Two windows of five tokens, of two homes, with a public model and three others over seven symbols."""
    draw = np.random.default_rng(3)
    logits = draw.normal(0, 2, (4, 2, 4, 7)).astype(np.float32)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return Judged(draw.integers(0, 7, (2, 5)).astype(np.int32), np.array([0, 1]), logs[0], logs[1:])


def test_held_out_text_is_trained_on_by_nobody_and_settings_are_chosen_on_another_part(corpora):
    for texts in (folders(corpora, 7), installed(7, 60_000)):
        for silo in texts.silos:
            parts = set(silo.train), set(silo.chosen_by), set(silo.held_out)
            assert all(parts)
            assert len(set.union(*parts)) == sum(map(len, parts))
            assert not set(texts.public) & set().union(*parts)


def test_the_seed_deals_the_texts(corpora):
    assert folders(corpora, 7) == folders(corpora, 7)
    assert folders(corpora, 7).digest != folders(corpora, 8).digest
    assert tuple(PACKAGES) == tuple(s.name for s in installed(7, 20_000).silos)


def test_two_silos_are_too_few_and_a_silo_of_one_file_cannot_be_dealt(corpora, tmp_path):
    with pytest.raises(ConfigError, match="at least 3 folders"):
        folders(tmp_path / "nowhere", 7)
    for i in range(1, 20):
        (corpora / "ash" / f"{i}.txt").unlink()
    with pytest.raises(ConfigError, match="too few files"):
        folders(corpora, 7)


def naive_mixture(judged, bound, decay):
    """Walk each window token by token, each model keeping its own weight."""
    found = np.empty(judged.told.shape)
    for w, row in enumerate(judged.rows):
        states = [0.0] * len(judged.models)
        for t, target in enumerate(row[1:]):
            weight = [math.exp(max(-bound, min(bound, s))) for s in states]
            over = sum(k * np.exp(m[w, t].astype(float)) for k, m in zip(weight, judged.models, strict=True))
            q = (np.exp(judged.public[w, t].astype(float)) + over) / (1 + sum(weight))
            assert q.sum() == pytest.approx(1, abs=1e-6)
            found[w, t] = math.log(q[target])
            better = [float(m[w, t, target]) - float(judged.public[w, t, target]) for m in judged.models]
            states = [decay * s + b for s, b in zip(states, better, strict=True)]
    return found


@pytest.mark.parametrize(("bound", "decay"), [(2.0, 0.9), (0.5, 1.0)])
def test_the_mixture_is_what_members_that_weigh_themselves_come_to(judged, bound, decay):
    found = rules.mixture(judged.told, judged.each, bound, decay)
    assert found == pytest.approx(naive_mixture(judged, bound, decay), abs=1e-6)


def test_who_asks_at_home_loses_the_prior_at_the_most_and_the_sum_alone_may_lose_more(judged):
    joined = rules.mixture(judged.told, judged.each, 2.0, 0.9)
    own = judged.each[0]
    found = rules.at_home(joined, own)
    for window in range(len(found)):
        products, total = [0.5, 0.5], 0.0
        for q, p in zip(np.exp(joined[window]), np.exp(own[window]), strict=True):
            total += math.log((products[0] * q + products[1] * p) / sum(products))
            products = [products[0] * q, products[1] * p]
        assert found[window].sum() == pytest.approx(total)
        assert found[window].sum() >= max(joined[window].sum(), own[window].sum()) - math.log(2) - 1e-9
    figures = Found()
    two = judged.of([0, 1])
    logits_figures._together(two, two, "", figures)
    length = judged.rows.shape[1] - 1
    assert figures.values["worst home ratio B=2"] <= 2 ** (1 / length) + 1e-9
    assert figures.values["worst home ratio B=2"] != figures.values["worst home ratio of the sum B=2"]


def test_a_product_and_a_mean_of_logits_are_normalised(judged):
    total = rules.clipped(judged, 1.5)
    for logits_, found in (
        ((judged.public + 0.3 * total) / 0.8, rules.product(judged, total, 0.3, 0.8)),
        (judged.models.mean(0), rules.mean_logit(judged, with_public=False)),
    ):
        q = np.exp(logits_.astype(float))
        assert found == pytest.approx(rules.at(np.log(q / q.sum(-1, keepdims=True)), judged.rows), abs=1e-5)
    assert np.abs(total).max() <= 1.5 * len(judged.models) + 1e-6


@pytest.mark.parametrize(("epsilon", "tokens"), [(8.0, 256), (2.0, 64)])
@pytest.mark.parametrize("unit", list(Unit))
def test_a_push_fits_its_budget_and_a_larger_one_does_not(epsilon, tokens, unit):
    """A vector that is replaced moves a logit by twice what one that is taken away does."""
    orders = default_orders(epsilon, private.DELTA)

    def fits(a):
        moved = a * unit.value  # the range of the log-ratio of two neighbours is twice that
        event = SelfComposedDpEvent(ZCDpEvent((2 * moved) ** 2 / 8), tokens)
        return Filter(orders, private.DELTA).fits(price(event, orders), epsilon)

    a = private.push(epsilon, tokens, unit)
    assert fits(a)
    assert not fits(a * 1.001)


def test_pmixed_mixes_as_much_as_its_radius_lets_it(judged):
    alpha, radius = 3, 0.05
    public = np.exp(judged.public)
    for model in judged.models:
        share = private.mixed_share(np.exp(model - judged.public), public, alpha, radius)
        assert ((share > 0) & (share < 1)).all()
        for s, most in ((share, radius), (share * 1.01 + 2**-12, None)):
            mixed = s[..., None] * np.exp(model) + (1 - s[..., None]) * public
            apart = [np.log((p**alpha * q ** (1 - alpha)).sum(-1)) / 2 for p, q in ((mixed, public), (public, mixed))]
            assert (np.maximum(*apart) <= radius * 1.001).all() if most else (np.maximum(*apart) > radius).all()


def test_with_nobody_taking_part_pmixed_is_the_public_model(judged):
    found = private.pmixed(judged, 3, 0.05, 0.0, np.random.default_rng(1))
    assert found == pytest.approx(judged.told, abs=1e-6)


def test_noise_in_a_sum_without_noise_is_a_product_on_the_public_models_best_symbols(judged):
    whole = private.gaussian_sum(judged, 1e9, 3.0, 0.0, 7, np.random.default_rng(1))
    total = (judged.models - judged.public).sum(0)
    assert whole == pytest.approx(rules.product(judged, total, 1.0), abs=1e-5)
    noisy = private.gaussian_sum(judged, 1.0, 3.0, 5.0, 7, np.random.default_rng(1))
    assert not np.allclose(noisy, private.gaussian_sum(judged, 1.0, 3.0, 0.0, 7, np.random.default_rng(1)), atol=0.1)


def test_a_model_that_was_trained_of_the_same_is_loaded_and_of_other_text_is_trained_again(corpora, tmp_path):
    def trained(seed):
        bench = Bench(Lab(tmp_path / "work", corpora, TINY, seed))
        bench.public()
        return (bench.shelf.folder / "public" / "model.safetensors").stat().st_mtime_ns

    first = trained(7)
    assert trained(7) == first
    (corpora / "public" / "0.txt").write_text("trees lose their leaves\n" * 40)
    assert trained(7) != first


def test_a_figure_is_the_mean_of_ratios_and_a_goal_is_met_up_to_itself():
    names = [n for stage in (found_of(1.0), found_of(3.0)) for n in stage.values]
    rows = {r.measure: r for r in rows_of([found_of(1.0), found_of(3.0)])}
    assert names
    row = rows["mixture_vs_best_silo"]
    assert (row.value, row.ours, row.peer_value) == (pytest.approx(0.62), pytest.approx(1.24), pytest.approx(2.0))
    assert row.met is True
    assert rows["mixture_vs_best_silo_spread"].value == pytest.approx(0.0)
    assert rows["worst_home_ratio"].met is False
    assert rows["worst_home_ratio_of_the_sum"].value == 2.0


def test_overhead_is_what_a_trip_takes_beyond_its_slowest_forward():
    notes = np.array(
        [[[9.0, 9.0, 9.0], [0.10, 0.05, 10.0], [0.20, 0.05, 11.0]], [[9, 9, 9], [0.3, 0.05, 9.2], [0.1, 0.05, 9.4]]]
    )
    whole, processor = overhead_of(np.array([5.0, 0.33, 0.25]), np.array([5.0, 0.1, 0.2]), notes, 2)
    assert whole.value == pytest.approx((0.03 + 0.05) / 0.5)
    assert whole.met is False
    assert processor.value == pytest.approx((0.95 + 0.15) / 0.05)


def test_masking_is_timed_at_real_members():
    rows = masking(Masking(64, 2, 1))
    assert [r.measure for r in rows] == ["mask_ms_152k", "mask_ms_152k_u32"]
    assert all(r.value > 0 for r in rows)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_figures_of_real_homes_would_show_a_wrong_word(corpora, tmp_path, monkeypatch):
    bench = Bench(Lab(tmp_path / "work", corpora, TINY, 7))
    sound, broken = (Found({}, {"decay": "0.9"}) for _ in range(2))
    real(bench, sound)
    assert sound.values["wrong words"] == 0
    assert sound.values["quantisation"] < 0.001
    assert 1 <= sound.values["tokens a trip dp"] <= 4
    assert 1 <= sound.values["tokens a trip"] <= 4
    student(bench, sound)
    assert 1 <= sound.values["tokens a trip student"] <= 4
    assert sound.values["student divergence"] > 0
    lesson = lessons_of(bench, 0.9)[0]
    assert lesson.labels.sum(axis=1) == pytest.approx(1, abs=1e-5)
    monkeypatch.setattr(logits_real, "entries", lambda *given: entries(*given) * 1.01)
    real(bench, broken)
    assert broken.values["wrong words"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_promised_row_is_there_with_its_spread_and_is_of_trained_models(corpora, tmp_path):
    rows = {r.measure: r for r in logits(corpora, tmp_path / "work", TINY, processes=1)}
    assert rows["protocol_overhead"].value > 0
    for name in ROWS:
        assert math.isfinite(rows[name].value)
        assert rows[name].met is not None
        assert name not in RATIOS or rows[f"{name}_spread"].value > 0
    trained = {f.parent.name for f in (tmp_path / "work" / "seed-7").rglob("model.safetensors")}
    assert trained >= {"public", "ash", "ash-dp", "ash-shard-0", "ash-shard-1"}


def found_of(scale):
    """Return made-up figures, all of one size but the mixture's."""

    class Same(dict):
        def __missing__(self, name):
            return scale

    found = Found(Same(), {})
    found.values["mixture B=2"], found.values["worst home ratio B=2"] = 0.62 * scale, 1.04
    return found
